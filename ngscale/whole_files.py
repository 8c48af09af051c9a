"""Files that are whole or not there, whatever ends the process: written beside, then renamed.

``.tmp-NAME`` is what ``NAME`` is written as, one writer at a time. A killed one leaves it behind;
the next writer of ``NAME``, the same command run again, takes it over, so none is an orphan.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from ngscale.errors import DiskFullError, InputError

TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where no more can be written."""


@contextmanager
def disk_errors(path: Path, way_out: str = "choose another directory") -> Iterator[None]:
    """Tell what the system says about ``path`` in one line.

    Raises:
        DiskFullError: the disk is full.
        InputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFullError(
                f"{path}: the disk is full; free some space or {way_out}"
            ) from error
        raise InputError(
            f"{path}: cannot be written: {error.strerror or error}; {way_out}"
        ) from error


@contextmanager
def replacing(path: Path, way_out: str = "choose another directory") -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place only when the block succeeds.

    Raises:
        DiskFullError: the disk is full.
        InputError: the directory cannot be written.
    """
    with disk_errors(path, way_out):
        if not path.name:  # "." and "/"
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        handle = _locked(temporary)
        try:
            yield temporary
            temporary.chmod(0o644)
            commit(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)


def append_whole(path: Path, data: bytes) -> None:
    """Add ``data`` to a file, or nothing of it.

    Raises:
        DiskFullError: the disk is full.
        InputError: the file cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                write_all(file, data)
            except OSError:
                file.truncate(size)
                raise


def write_all(file: FileIO, data: bytes) -> None:
    """All of it: a file without a buffer may take less, as one on a disk that fills up does."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def commit(temporary: Path, final: Path) -> None:
    """The moment at which something counts as finished."""
    temporary.replace(final)


def _locked(temporary: Path) -> int:
    """Open and this writer's alone, once whoever had it has renamed or removed it."""
    while True:
        handle = os.open(temporary, os.O_CREAT | os.O_RDWR, 0o600)
        with suppress(OSError):  # a file system without locks: two writers at once are not told
            fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if temporary.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)
