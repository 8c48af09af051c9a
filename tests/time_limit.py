"""A pytest plugin for ``make coverage``, where kernels run as Python: it leaves out slow tests.

A test, or a fixture, is ended and counted as skipped after MAX_CPU_S of this process's time, or
MAX_WALL_S where it waits for others.
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


@contextmanager
def _limited() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
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
def pytest_runtest_setup() -> Iterator[None]:
    with _limited():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _limited():
        yield
