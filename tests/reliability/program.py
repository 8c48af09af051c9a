"""``ngscale`` as a shell would run it: exit code, and what came out of both streams."""

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

NETWORK = "network: "
"""Begins a line on stderr that tells of a refused connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A finished run."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Program:
    """Runs ``ngscale`` in forks of one process; see zygote.py."""

    checkout: Path
    scratch: Path
    environ: dict[str, str]
    """Of every run that does not say otherwise."""
    _zygote: subprocess.Popen[str] = field(init=False)
    _runs: int = 0

    def __enter__(self) -> "Program":
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.zygote"],
            cwd=self.checkout,
            env={**os.environ, "PYTHONPATH": str(self.checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zygote.communicate()

    def run(
        self,
        *argv: str,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: str | None = os.devnull,
        terminal: bool = False,
        head: bool = False,
        threads: int | None = None,
    ) -> Done:
        """One run; ``terminal``: all streams are one; ``head``: stdout is read up to one line;
        ``threads``: processors that it may use, and threads of numba and torch.
        """
        self._runs += 1
        directory = self.scratch / str(self._runs)
        directory.mkdir()
        out, err = directory / "out", directory / "err"
        streams: Sequence[str | None] = (stdin, str(out), str(err))
        read: list[bytes] = []
        reader = None
        if terminal:
            master, slave = pty.openpty()
            name = os.ttyname(slave)
            streams = (name, name, name)
            reader = threading.Thread(target=_read_terminal, args=(master, read))
        elif head:
            os.mkfifo(out)
            reader = threading.Thread(target=_read_line, args=(out, read))
        if reader is not None:
            reader.start()
        request = {
            "argv": argv,
            "streams": streams,
            "cwd": str(cwd or directory),
            "threads": threads,
            "environ": dict(self.environ if environ is None else environ),
        }
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        code = int(self._zygote.stdout.readline())
        if terminal:
            os.close(slave)
        if reader is not None:
            reader.join(timeout=10)
            assert not reader.is_alive()
            return Done(
                code=code,
                out=b"".join(read).decode(),
                err="" if terminal else err.read_text(encoding="utf-8"),
            )
        return Done(code=code, out=out.read_text(encoding="utf-8"), err=err.read_text("utf-8"))


def _read_line(path: Path, read: list[bytes]) -> None:
    with path.open("rb", buffering=0) as file:
        read.append(file.readline())


def _read_terminal(master: int, read: list[bytes]) -> None:
    try:
        while block := os.read(master, 4096):
            read.append(block)
    except OSError:  # EIO: the last writer has gone
        pass
    os.close(master)
