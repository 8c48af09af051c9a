"""The C of the Linux kernel, from the Debian package linux-source-6.1 (GPL-2.0-only).

Every .c and .h file of the source tree is one document; files that are not UTF-8 are left out.
About a third of the bytes are generated register lists of one graphics driver.

    python corpora/recipes/kernel_code.py --out out/kernel-code
"""

import argparse
import lzma
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sources import InputError, run_recipe
from stages import Document, build_corpus, describe_deb, fetch_deb, unpack, work_dir

PACKAGE = "linux-source-6.1"
VERSION = "6.1.192-2"
LICENCE = "GPL-2.0-only WITH Linux-syscall-note"
ARCHIVE = "usr/src/linux-source-6.1.tar.xz"


def read_tree(archive: Path, suffixes: tuple[str, ...], under: str = "") -> Iterator[Document]:
    """The UTF-8 files of a source archive whose path starts and ends so.

    Raises:
        InputError: the archive is damaged.
    """
    num_left_out = 0
    try:
        with tarfile.open(archive, "r|*") as tree:
            for member in tree:
                name = member.name.partition("/")[2]
                if not (member.isfile() and name.startswith(under) and name.endswith(suffixes)):
                    continue
                data = tree.extractfile(member)
                assert data is not None  # a regular file
                try:
                    yield Document(name=name, text=data.read().decode("utf-8"))
                except UnicodeDecodeError:
                    num_left_out += 1
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise InputError(f"{archive}: is no source archive: {error}") from error
    if num_left_out:
        print(f"{num_left_out} files are not UTF-8 and were left out", file=sys.stderr)


def main() -> None:
    """Fetch the package and write its C files as a corpus."""
    parser = argparse.ArgumentParser(description="The C of the Linux kernel as a corpus.")
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--debs", type=Path, help=f"directory with a downloaded {PACKAGE} .deb")
    arguments = parser.parse_args()
    work = work_dir(arguments.out)
    deb = fetch_deb(work, PACKAGE, VERSION, arguments.debs)

    def documents() -> Iterator[Document]:
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            yield from read_tree(unpack(PACKAGE, deb, Path(scratch)) / ARCHIVE, (".c", ".h"))

    build_corpus(arguments.out, work, [describe_deb(deb, PACKAGE, LICENCE)], documents)


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
