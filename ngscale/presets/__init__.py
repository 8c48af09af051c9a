"""Published models as data: config.json-shaped files, and what a target on the command line means.

``sources.toml`` says where each file's values come from.
"""

from pathlib import Path

from ngscale.errors import InputError

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The presets, in alphabetical order."""
    return sorted(path.stem for path in _HERE.glob("*.json"))


def resolve(target: str) -> Path:
    """The config.json that ``target`` means: a preset's, a directory's, or the file itself.

    A preset goes before a file of the same name; ``./name`` is always the file.

    Raises:
        InputError: there is no such preset, file or config.json in the directory.
    """
    if target in names():
        return _HERE / f"{target}.json"
    path = Path(target)
    try:
        if path.is_dir():
            path /= "config.json"
            if not path.is_file():
                raise InputError(f"{target}: the directory holds no config.json")
        elif not path.is_file():
            raise InputError(
                f"{target}: no such file, nor directory with a config.json, nor preset; "
                f"presets: {', '.join(names())}"
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
