"""What is left by writers that fail, are killed, or write at the same time."""

import errno
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from io import FileIO
from pathlib import Path

import pytest

from ngscale.errors import DiskFullError, InputError
from ngscale.whole_files import append_whole, disk_errors, replacing, write_all

KILLED = """
import os, signal, sys
from pathlib import Path
from ngscale.whole_files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_temporary_of_a_killed_writer_is_taken_over_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_text(), names(tmp_path)) == ("old", [".tmp-a.txt", "a.txt"])
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), names(tmp_path)) == ("new", ["a.txt"])
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with suppress(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_a_directory_without_a_name_is_no_file() -> None:
    said = r"^/: cannot be written: Is a directory; choose another directory$"
    with pytest.raises(InputError, match=said), replacing(Path("/")):
        raise AssertionError


def test_two_writers_take_turns(tmp_path: Path) -> None:
    path, order = tmp_path / "a.txt", list[str]()
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with replacing(path) as temporary:
            order.append("second")
            temporary.write_text("2")

    with replacing(path) as temporary:
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        thread.join(0.2)
        temporary.write_text("1")
        order.append("first")
    thread.join()
    assert (order, path.read_text(), names(tmp_path)) == (["first", "second"], "2", ["a.txt"])


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOSPC, DiskFullError, "the disk is full; free some space or set X"),
        (errno.EDQUOT, DiskFullError, "the disk is full; free some space or set X"),
        (errno.EROFS, InputError, "cannot be written: Read-only file system; set X"),
    ],
)
def test_the_way_out_is_told(number: int, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=rf"^/d/f: {said}$"), disk_errors(Path("/d/f"), "set X"):
        raise OSError(number, os.strerror(number))


def test_a_line_is_added_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "log"
    append_whole(path, b"one\n")

    def half(file: FileIO, data: bytes) -> None:
        write_all(file, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ngscale.whole_files.write_all", half)
        with pytest.raises(DiskFullError, match=r"log: the disk is full"):
            append_whole(path, b"two\n")
    append_whole(path, b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


def test_a_file_that_takes_less_at_a_time_gets_all() -> None:
    taken = list[bytes]()

    class Slow:
        def write(self, data: memoryview) -> int:
            taken.append(bytes(data[:3]))
            return len(taken[-1])

    write_all(Slow(), b"12345678")  # type: ignore[arg-type]
    assert taken == [b"123", b"456", b"78"]
