"""Corpora, tokenizers and checkpoints by name: what manifest.toml lists, and what is built where.

Three places: embedded (in the checkout or the wheel), built (by a recipe, in the cache directory)
and not yet built. The cache is ``$NGSCALE_CACHE``, else ``$XDG_CACHE_HOME/ngscale``, else
``~/.cache/ngscale``.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ngscale.errors import UsageError

BUILT = "built.json"
"""What a recipe writes last, beside what it built: versions and hashes of the sources."""
FOLDERS = {"corpus": "corpora", "tokenizer": "tokenizers", "checkpoint": "checkpoints"}
"""Kind of a buildable artefact -> folder of the cache."""
_PACKAGED = Path(__file__).parent / "corpora"
_CHECKOUT = Path(__file__).parent.parent / "corpora"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One entry of manifest.toml."""

    name: str
    kind: str
    num_bytes: int
    licence: str
    source: str
    script: str
    """File of the recipe under ``recipes/``."""
    committed: bool
    """Whether every installation carries it."""

    @property
    def buildable(self) -> bool:
        """Whether ``ngscale corpora build`` makes it."""
        return not self.committed and self.kind in FOLDERS

    @property
    def built_dir(self) -> Path:
        """Where it lies once built."""
        return cache_dir() / FOLDERS[self.kind] / self.name

    @property
    def is_built(self) -> bool:
        """Whether it lies there, whole."""
        return self.buildable and self.built_dir.is_dir()


def file_digest(path: Path) -> str:
    """sha256 of the content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> Path:
    """Where built corpora and encoded token streams are kept.

    Raises:
        UsageError: no variable says, and this user has no home.
    """
    if chosen := os.environ.get("NGSCALE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "ngscale"
    try:
        return Path.home() / ".cache" / "ngscale"
    except RuntimeError as error:
        raise UsageError(
            "HOME: is not set, and this user has no home directory; set NGSCALE_CACHE to a "
            "directory for corpora and kept results"
        ) from error


def embedded_dir() -> Path:
    """The ``corpora/`` folder: inside an installed wheel, or at the root of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def manifest() -> Iterator[Artefact]:
    """Every entry of manifest.toml, in its order."""
    text = (embedded_dir() / "manifest.toml").read_text(encoding="utf-8")
    for entry in tomllib.loads(text)["artefact"]:
        yield Artefact(
            name=entry["name"],
            kind=entry["kind"],
            num_bytes=entry["bytes"],
            licence=entry["licence"],
            source=entry["source"],
            script=entry["recipe"].split()[1].rpartition("/")[2],
            committed=entry["committed"],
        )


def find(name: str, kind: str) -> Artefact | None:
    """The buildable artefact of that name and kind."""
    found = (item for item in manifest() if item.buildable and item.kind == kind)
    return next((item for item in found if item.name == name), None)
