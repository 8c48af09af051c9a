"""The tekken tokenizer of 131,072 ids, from the PyPI wheel mistral-common (Apache-2.0).

``tekken.json`` lists 150,000 byte strings by rank; its first 130,072 ranks follow 1,000 special
ids, so that a token's id is its rank + 1,000.

    python corpora/recipes/tekken.py --out out/tekken
"""

import argparse
import zipfile
from dataclasses import asdict
from pathlib import Path

from sources import InputError, run_recipe, write_whole
from stages import describe_wheel, fetch_wheel, finish, work_dir

REQUIREMENT = "mistral-common==1.13.1"
LICENCE = "Apache-2.0"
MEMBER = "mistral_common/data/tekken_240911.json"


def main() -> None:
    """Take the tokenizer out of the wheel."""
    parser = argparse.ArgumentParser(description="The tekken tokenizer of 131,072 ids.")
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {REQUIREMENT}")
    arguments = parser.parse_args()
    work = work_dir(arguments.out)
    wheel = fetch_wheel(work, REQUIREMENT, arguments.wheel)
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{wheel}: has no {MEMBER}: {error}") from error
    write_whole(work / "tekken.json", data)
    package = describe_wheel(wheel, "mistral-common", LICENCE)
    finish(arguments.out, work, {"name": "tekken", "packages": [asdict(package)]})


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
