"""A command under a limit of address space runs in a child, whose end is told and passed on."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits address space")

LIMITED = """
import os, resource, signal, sys, time
from ngscale.watched import go_on_in_a_child

resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
signal.signal(signal.SIGTERM, signal.default_int_handler)
watching = os.getpid()
go_on_in_a_child()
assert os.getppid() == watching
"""
COUNTING = """
times = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: times.append(number))
print("ready", os.getpid(), flush=True)
end = time.monotonic() + 60
while not times and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.3)
print(*map(int, times), flush=True)
"""
"""Tells what it is sent."""
ENDED = "error: out of memory: a library ended the command within 1.00 GiB of address space; "
ENDS = {
    "nothing": ("pass", 0, ""),
    "an exit code": ("sys.exit(9)", 9, ""),
    "an abort": ("os.abort()", 6, ENDED),
    "a segmentation fault": ("os.kill(os.getpid(), signal.SIGSEGV)", 6, ENDED),
    "the loader's code": ("os._exit(127)", 6, ENDED),
    "a kill": ("os.kill(os.getpid(), signal.SIGKILL)", 137, ""),
}


def start(body: str, checkout: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LIMITED + body],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_child_is_passed_on(end: str, checkout: Path) -> None:
    body, code, line = ENDS[end]
    process = start(body, checkout)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert err.startswith(line)
    assert len(err.splitlines()) == bool(line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_sent_to_the_command_reaches_the_child_once(
    number: signal.Signals, checkout: Path
) -> None:
    process = start(COUNTING, checkout)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{int(number)}\n")


def test_a_terminals_ctrl_c_reaches_the_child_once(checkout: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(checkout)
        os.execv(sys.executable, [sys.executable, "-c", LIMITED + COUNTING])
    with os.fdopen(terminal, "r+b", buffering=0) as lines:
        assert lines.readline().startswith(b"ready")
        lines.write(b"\x03")
        told = lines.readline().replace(b"^C", b"")
        assert (told, os.waitpid(process, 0)[1]) == (b"%d\r\n" % signal.SIGINT, 0)


def test_the_child_ends_with_the_command(checkout: Path) -> None:
    process = start(COUNTING, checkout)
    assert process.stdout
    child = int(process.stdout.readline().split()[1])
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


def test_without_a_limit_there_is_no_child(checkout: Path) -> None:
    body = LIMITED.replace("resource.setrlimit", "resource.getrlimit").replace(
        ", (2**30, 2**30)", ""
    )
    body = body.replace("os.getppid() == watching", "os.getpid() == watching")
    done = subprocess.run([sys.executable, "-c", body], cwd=checkout, check=False)
    assert done.returncode == 0
