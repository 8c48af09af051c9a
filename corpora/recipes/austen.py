"""Jane Austen's six novels as running text, from the Debian package r-cran-janeaustenr.

The package carries the Project Gutenberg texts (public domain, licence header removed) as R
character vectors, one element per line of about 70 columns. Lines inside a paragraph are joined by
one space and paragraphs parted by one blank line; nothing else is changed: ``_italics_``, ``--``
and chapter headings stay. Verse, letter heads and signatures are joined like any other paragraph.

    python corpora/recipes/austen.py --out out/austen
"""

import argparse
import gzip
import hashlib
import itertools
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sources import (
    InputError,
    check_installed,
    check_sha256,
    manifest_entry,
    result_line,
    run_recipe,
    unpacked_deb,
    write_whole,
)

PACKAGE = "r-cran-janeaustenr"
DATABASE = Path("usr/lib/R/site-library/janeaustenr/data/Rdata")
NOVELS = {
    "emma": "emma",
    "mansfieldpark": "mansfield_park",
    "northangerabbey": "northanger_abbey",
    "persuasion": "persuasion",
    "prideprejudice": "pride_and_prejudice",
    "sensesensibility": "sense_and_sensibility",
}
"""Name of the R variable -> name of the text file and of its entry in manifest.toml."""


def read_rds(data: bytes) -> Any:
    """The Python value of an uncompressed RDS serialisation."""
    import rdata

    return rdata.conversion.convert(rdata.parser.parse_data(data, extension=".rds"))


def lazy_load(database: Path) -> dict[str, Any]:
    """Every variable of an R lazy-load database, ``database``.rdx and .rdb.

    The .rdx is a gzipped RDS with [offset, length] in bytes per variable; a blob of the .rdb is a
    4-byte big-endian length, then zlib (R's ``makeLazyLoadDB``, compression type 1).

    Raises:
        InputError: the files are missing or are compressed otherwise.
    """
    try:
        index = read_rds(gzip.decompress(database.with_suffix(".rdx").read_bytes()))
        blobs = database.with_suffix(".rdb").read_bytes()
        return {
            str(name): read_rds(unpack_blob(blobs[offset : offset + length]))
            for name, (offset, length) in index["variables"].items()
        }
    except (FileNotFoundError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"the package holds no readable R database {database.name}") from error


def unpack_blob(blob: bytes) -> bytes:
    """The RDS bytes of one .rdb blob."""
    data = zlib.decompress(blob[4:])
    assert len(data) == int.from_bytes(blob[:4], "big")
    return data


def running_text(lines: Iterable[str]) -> str:
    """Hard-wrapped lines as paragraphs: one line each, one blank line between two."""
    stripped = [line.strip() for line in lines]
    groups = itertools.groupby(stripped, key=bool)
    return "\n\n".join(" ".join(group) for is_text, group in groups if is_text) + "\n"


def read_novels(root: Path) -> dict[str, str]:
    """File stem -> running text of the six novels in an unpacked package.

    Raises:
        InputError: the package holds other variables.
    """
    variables = lazy_load(root / DATABASE)
    if missing := NOVELS.keys() - variables.keys():
        raise InputError(f"the package lacks the novels {', '.join(sorted(missing))}")
    return {stem: running_text(map(str, variables[name])) for name, stem in NOVELS.items()}


def main() -> None:
    """Hold each novel against manifest.toml and write it."""
    parser = argparse.ArgumentParser(description="Jane Austen's six novels as running text.")
    parser.add_argument("--out", type=Path, required=True, help="directory for the .txt files")
    parser.add_argument("--deb", type=Path, help=f"a downloaded {PACKAGE} .deb")
    arguments = parser.parse_args()
    check_installed("rdata")
    with tempfile.TemporaryDirectory() as scratch:
        novels = read_novels(unpacked_deb(PACKAGE, arguments.deb, Path(scratch)))
    for stem, text in novels.items():
        data = text.encode("utf-8")
        check_sha256(stem, hashlib.sha256(data).hexdigest(), manifest_entry(stem)["sha256"])
        path = arguments.out / f"{stem}.txt"
        write_whole(path, data)
        print(result_line(path))


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
