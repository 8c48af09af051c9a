"""Threads of a sweep: as many as the process has cores, each with scratch arrays of its own."""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

Job = TypeVar("Job")
Own = TypeVar("Own")

Done = Callable[[int], object]
"""Called, by any thread, with the number of tables just finished."""
Progress = Callable[[str, int], AbstractContextManager[Done]]
"""Opens a progress display with a title and a total."""


def nobody(steps: int, /) -> None:
    """The ``Done`` of a caller who does not ask."""


class Scratch:
    """Arrays of one thread, grown when needed and never given back: page faults cost more than
    the counting where every size takes fresh arrays.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def take(self, name: str, size: int, dtype: type[np.generic]) -> np.ndarray:
        """``size`` elements, uninitialised."""
        num_bytes = size * np.dtype(dtype).itemsize
        held = self._arrays.get(name)
        if held is None or len(held) < num_bytes:
            held = self._arrays[name] = np.empty(-(-num_bytes // 8), dtype=np.uint64).view(np.uint8)
        return held[:num_bytes].view(dtype)

    def zeros(self, name: str, size: int, dtype: type[np.generic]) -> np.ndarray:
        """``size`` zeros."""
        array = self.take(name, size, dtype)
        array.fill(0)
        return array


def num_threads() -> int:
    """Threads the sweep uses: the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[Job, Own], object],
    own: Callable[[], Own],
    *,
    threads: int,
) -> None:
    """``work(job, own())`` for every job; each thread has one ``own()`` and takes the next job.

    An error or an interrupt ends all threads after the job they are at.
    """
    queue: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        queue.put(job)
    ended = threading.Event()

    def drain(_: int) -> None:
        try:
            mine = own()
            while not ended.is_set():
                try:
                    job = queue.get_nowait()
                except Empty:
                    return
                work(job, mine)
        finally:
            ended.set()

    with ThreadPoolExecutor(max_workers=threads) as pool:
        try:
            list(pool.map(drain, range(threads)))
        finally:
            ended.set()
