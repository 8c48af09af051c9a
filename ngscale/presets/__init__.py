"""Published models as data: config.json-shaped files, and what a target on the command line means.

``sources.toml`` says where each file's values come from.
"""

from pathlib import Path

from ngscale.errors import InputError

_HERE = Path(__file__).parent
_NGRAM = _HERE / "ngram"
"""Models of which only the n-gram tables are published well enough."""

_BACKBONES = _HERE / "backbones"
"""Whole models without n-gram tables."""


def names() -> list[str]:
    """The presets of whole models, in alphabetical order."""
    return sorted([*_stems(_HERE), *_stems(_BACKBONES)])


def with_tables() -> list[str]:
    """The presets that have n-gram tables."""
    return sorted([*_stems(_HERE), *_stems(_NGRAM)])


def all_names() -> list[str]:
    """Every preset, in alphabetical order."""
    return sorted([*with_tables(), *_stems(_BACKBONES)])


def _stems(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.json"))


def resolve(target: str) -> Path:
    """The config.json that ``target`` means: a preset's, a directory's, or the file itself.

    A preset goes before a file of the same name; ``./name`` is always the file.

    Raises:
        InputError: there is no such preset, file or config.json in the directory.
    """
    for directory in (_HERE, _NGRAM, _BACKBONES):
        if target in _stems(directory):
            return directory / f"{target}.json"
    path = Path(target)
    try:
        if path.is_dir():
            path /= "config.json"
            if not path.is_file():
                raise InputError(f"{target}: the directory holds no config.json")
        elif not path.is_file():
            raise InputError(
                f"{target}: no such file, nor directory with a config.json, nor preset; "
                f"presets: {', '.join(all_names())}"
            )
    except OSError as error:
        raise InputError(f"{target}: cannot be read: {error.strerror}") from error
    return path


def title(target: str) -> str:
    """What reports call ``target``: its last word, never a path.

    ``models/lite/config.json`` and ``models/lite`` are both ``lite``.
    """
    path = Path(target)
    if path.name == "config.json":
        path = path.parent
    name = path.name if path.name not in ("", "..") else "config.json"
    return name.encode(errors="replace").decode()  # a file name need not be Unicode
