"""English of several kinds, about 23M tekken tokens, from Debian packages.

The documentation of the Linux kernel, Python and Perl as its authors typed it, one file a document;
the Collaborative International Dictionary of English, 100 entries a document, its lines joined and
the tags that name an entry's source (``[1913 Webster]``) dropped; and Jane Austen's six novels.

    python corpora/recipes/english.py --out out/english
"""

import argparse
import gzip
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from austen import PACKAGE as NOVELS_PACKAGE
from austen import read_novels, running_text
from kernel_code import ARCHIVE, LICENCE, read_tree
from kernel_code import PACKAGE as KERNEL_PACKAGE
from kernel_code import VERSION as KERNEL_VERSION
from sources import InputError, check_installed, run_recipe
from stages import Document, build_corpus, describe_deb, fetch_deb, unpack, work_dir

PACKAGES = {
    KERNEL_PACKAGE: (KERNEL_VERSION, LICENCE),
    "dict-gcide": ("0.48.5+nmu2", "GPL-2.0-or-later"),
    "python3.11-doc": ("3.11.2-6+deb12u9", "PSF-2.0"),
    "perl-doc": ("5.36.0-7+deb12u4", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    NOVELS_PACKAGE: ("1.0.0-1", "LicenseRef-public-domain"),
}
"""Debian package -> the version tried first, and its licence."""
ENTRIES_PER_DOCUMENT = 100
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SOURCE_TAG = re.compile(
    r"^[ \t]*\[[^\]\n]*\b(?:Webster|WordNet|PJC|AS|RDH|Century Dict\.)[^\]\n]*\][ \t]*$",
    re.MULTILINE,
)


def number(digits: str) -> int:
    """A number of a dictd index: base 64, most significant digit first (man page dictfmt(1))."""
    value = 0
    for digit in digits:
        value = value * 64 + _DIGITS.index(digit)
    return value


def read_dictionary(root: Path, name: str) -> Iterator[Document]:
    """The entries of a dictd database in order, its description and double index lines left out.

    The handful of bytes that are not UTF-8 are read as Windows-1252, which is what they are.

    Raises:
        InputError: index and text do not belong together.
    """
    base = root / "usr/share/dictd" / name
    text = gzip.decompress(base.with_suffix(".dict.dz").read_bytes())
    rows = [line.split("\t") for line in base.with_suffix(".index").read_text("utf-8").splitlines()]
    try:
        entries = {(number(at), number(size)) for word, at, size in rows if word[:3] != "00-"}
    except ValueError as error:
        raise InputError(f"{base}.index: is no dictd index: {error}") from error
    if any(at + size > len(text) for at, size in entries):
        raise InputError(f"{base}.index: points beyond its text")
    ordered = sorted(entries)
    for count, start in enumerate(range(0, len(ordered), ENTRIES_PER_DOCUMENT)):
        batch = ordered[start : start + ENTRIES_PER_DOCUMENT]
        bodies = (decode(text[at : at + size]) for at, size in batch)
        joined = "\n".join(running_text(_SOURCE_TAG.sub("", body).split("\n")) for body in bodies)
        yield Document(name=f"{name}/{count:05}", text=joined)


def decode(data: bytes) -> str:
    """UTF-8, or Windows-1252 where it is not."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read_files(root: Path, suffix: str, label: str) -> Iterator[Document]:
    """Each UTF-8 file below ``root`` whose name ends so, as it is."""
    for path in sorted(root.rglob(f"*{suffix}")):
        if path.is_file() and not path.is_symlink():
            name = f"{label}/{path.relative_to(root)}"
            yield Document(name=name, text=path.read_text(encoding="utf-8"))


def main() -> None:
    """Fetch the packages and write their text as a corpus."""
    parser = argparse.ArgumentParser(description="English of several kinds as a corpus.")
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--debs", type=Path, help="directory with the downloaded .deb files")
    arguments = parser.parse_args()
    check_installed("rdata")
    work = work_dir(arguments.out)
    debs = {
        package: fetch_deb(work, package, version, arguments.debs)
        for package, (version, _) in PACKAGES.items()
    }

    def documents() -> Iterator[Document]:
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            root = {package: unpack(package, deb, Path(scratch)) for package, deb in debs.items()}
            for document in read_tree(
                root[KERNEL_PACKAGE] / ARCHIVE, (".rst", ".txt"), under="Documentation/"
            ):
                if "/translations/" not in document.name:
                    yield document
            yield from read_dictionary(root["dict-gcide"], "gcide")
            yield from read_files(root["python3.11-doc"], ".rst.txt", "python")
            yield from read_files(root["perl-doc"], ".pod", "perl")
            for stem, text in read_novels(root[NOVELS_PACKAGE]).items():
                yield Document(name=f"novels/{stem}", text=text)

    described = [describe_deb(debs[name], name, PACKAGES[name][1]) for name in PACKAGES]
    build_corpus(arguments.out, work, described, documents)


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
