"""What every recipe shares: fetching a source, checking it, writing a result whole."""

import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = Path(__file__).parents[1] / "manifest.toml"


class RecipeError(Exception):
    """A failure the user can mend; shown as one line."""

    exit_code: int


class InputError(RecipeError):
    """A given file, package or directory is not what the recipe needs."""

    exit_code = 3


class NetworkError(RecipeError):
    """A download failed; giving the file by hand is the way round."""

    exit_code = 5


class MissingPackageError(RecipeError):
    """A Python package is not installed; the message gives the pip command."""

    exit_code = 8


class DiskFullError(RecipeError):
    """No room; what is finished stays, and the next run goes on from there."""

    exit_code = 6


def check_installed(*packages: str) -> None:
    """Refuse before the download, not after it.

    Raises:
        MissingPackageError: a package the recipe needs is not installed.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise MissingPackageError(f"needs {', '.join(missing)}: pip install {' '.join(missing)}")


def run_recipe(main: Callable[[], None]) -> int:
    """Exit code of ``main``: 0, or that of the error it raised, told on stderr."""
    try:
        main()
    except RecipeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DiskFullError.exit_code if full else InputError.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def manifest_entry(name: str) -> dict[str, Any]:
    """The entry of manifest.toml called ``name``."""
    entries = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["artefact"]
    return next(dict(entry) for entry in entries if entry["name"] == name)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(label: str, found: str, expected: str) -> None:
    """Refuse a file which is not the one manifest.toml records.

    Raises:
        InputError: the digests differ.
    """
    if found != expected:
        raise InputError(f"{label} has sha256 {found}, manifest.toml records {expected}")


def download(command: list[str], into: Path, pattern: str) -> Path:
    """Run a downloader in the directory ``into``; the one file it leaves there.

    Raises:
        InputError: the downloader is not installed.
        DiskFullError: there was no room for the file.
        NetworkError: it failed or left nothing.
    """
    try:
        done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed; download the file by hand") from error
    files = sorted(into.glob(pattern))
    if done.returncode != 0 or not files:
        _check_room(into, done.stderr)
        story = done.stderr.strip().splitlines() or ["no file came"]
        raise NetworkError(f"{' '.join(command)} failed: {story[-1]}")
    return files[0]


def _check_room(into: Path, story: str) -> None:
    """Raises: DiskFullError: that is what the other program's last words are about."""
    if os.strerror(errno.ENOSPC) in story:
        raise DiskFullError(f"{into}: the disk is full; make room and run the same command")


def unpacked_deb(package: str, given: Path | None, into: Path) -> Path:
    """Root of the unpacked Debian package: the ``given`` .deb, else one from apt-get.

    Raises:
        InputError: the .deb is missing or does not unpack.
        DiskFullError: there was no room for its files.
        NetworkError: apt-get could not download it.
    """
    deb = given or download(["apt-get", "download", package], into, f"{package}_*.deb")
    if not deb.is_file():
        raise InputError(f"{deb}: no such file")
    root = into / f"{package}-root"
    command = ["dpkg-deb", "-x", str(deb), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _check_room(into, done.stderr)
        raise InputError(f"{deb} is not a Debian package")
    return root


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` through a temporary file and a rename: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")  # a killed build's is taken over by the next
    try:
        with named(path):
            temporary.write_bytes(data)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Around writing ``path``: an error that names no file, as that of a write, names it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        said = error.strerror or str(error)
        raise OSError(error.errno, said, str(path)) from error


def result_line(path: Path) -> str:
    """``sha256  bytes  path``, to be held against manifest.toml."""
    return f"{sha256_of(path)}  {path.stat().st_size:>9,} bytes  {path}"
