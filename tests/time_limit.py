"""A pytest plugin for ``make coverage``, where kernels run as Python: it leaves out slow tests.

A test, or a fixture, is ended and counted as skipped after MAX_CPU_S of this process's time, or
MAX_WALL_S where it waits for others. The summary names every one.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

MAX_CPU_S = 60
MAX_WALL_S = 600
_ALARMS = [
    (signal.ITIMER_PROF, signal.SIGPROF, MAX_CPU_S),
    (signal.ITIMER_REAL, signal.SIGALRM, MAX_WALL_S),
]
_LEFT_OUT: list[str] = []


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        _LEFT_OUT.append(item.nodeid)
        pytest.skip("takes too long without compiled kernels")

    before = [signal.signal(number, stop) for _, number, _ in _ALARMS]
    for timer, _, seconds in _ALARMS:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(_ALARMS, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _limited(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _limited(item):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"{len(_LEFT_OUT)} left out, too long without compiled kernels")
    for name in _LEFT_OUT:
        terminalreporter.write_line(f"  {name}")
