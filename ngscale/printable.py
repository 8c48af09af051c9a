"""Names that others chose (of files, models, corpora), as a terminal, page or figure may show them.

A file name need not be Unicode (Python holds its stray bytes as lone surrogates, which no stream
encodes), and may hold terminal commands or marks that turn the reading direction round.
"""

import re
import unicodedata

_ODD = re.compile(r"[^\n\t\x20-\x7e]")
_UNSHOWN = ("Cc", "Cf", "Cs")
"""Controls, format marks such as U+202E, surrogates."""


def printable(text: str) -> str:
    r"""``text`` with what cannot be shown as an escape: ``a\x1b[2Jb``; lines and tabs stay."""
    return _ODD.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    if unicodedata.category(character) in _UNSHOWN:
        return character.encode("unicode_escape").decode()
    return character
