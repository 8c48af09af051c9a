"""A process that imports once and forks an ``ngscale`` for every request: tenths of a second each.

``python -m tests.reliability.zygote`` reads a run as a line of JSON on stdin and answers with its
exit status. The child has its own descriptors, environment, directory and standard streams, and
ends as any interpreter does; what reads the environment when it is imported is not among the
imports. `tests/test_cli.py` starts whole processes for a few of the same runs.
"""

import ctypes
import errno
import importlib
import json
import os
import signal
import sys
import time
from typing import Any

_IMPORTED = (
    "ngscale.cli",
    "numpy",
    "numba",
    "scipy.optimize",
    "torch",
    "rich.table",
    "tokenizers",
    "matplotlib.pyplot",
)
_LIMIT_S = 300.0
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE = 1 << 1
"""What lets root write where modes forbid it (capabilities(7))."""


def serve() -> None:
    """Answer until stdin ends."""
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
            return
        sys.stdout.write(f"{_status(child)}\n")
        sys.stdout.flush()


def _status(child: int) -> int:
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def _become(request: dict[str, Any]) -> None:
    for number, path in enumerate(request["streams"]):
        os.close(number)
        if path is not None:
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
            opened = os.open(path, flags | os.O_NOCTTY, 0o600)
            if opened != number:  # a lower one is closed
                os.dup2(opened, number)
                os.close(opened)
    sys.stdin = _reader() if request["streams"][0] is not None else None
    sys.stdout = _writer(1, "strict")
    sys.stderr = _writer(2, "backslashreplace")
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["cwd"])
    if request["threads"] is not None:
        _use_threads(request["threads"])
    sys.argv = ["ngscale", *request["argv"]]
    sys.modules["__main__"].__package__ = None  # else usage says python -m
    if os.geteuid() == 0:
        _obey_modes()
    sys.addaudithook(_no_network)
    from ngscale.cli import main

    main()


def _use_threads(number: int) -> None:
    """As the environment would have said, had it been read now."""
    import numba
    import torch

    numba.config.reload_config()  # type: ignore[no-untyped-call]
    torch.set_num_threads(number)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def _reader() -> Any:
    return open(0, encoding="utf-8", closefd=False)


def _writer(number: int, errors: str) -> Any:
    return open(number, "w", encoding="utf-8", errors=errors, closefd=False, buffering=1)


def _obey_modes() -> None:
    """Without CAP_DAC_OVERRIDE root is bound by the modes of its own files, as users are."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, data) == 0
    data[0] &= ~_DAC_OVERRIDE
    assert libc.capset(header, data) == 0


def _no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what would leave this machine, and tell of it on stderr."""
    match event, arguments:
        case "socket.getaddrinfo", (host, *_):
            pass
        case "socket.connect", (_, (host, *_)):
            pass
        case _:
            return
    if host not in ("127.0.0.1", b"127.0.0.1"):
        os.write(2, f"network: {host!r}\n".encode())
        raise OSError(errno.ENETUNREACH, "Network is unreachable")


if __name__ == "__main__":
    serve()
