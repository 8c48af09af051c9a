"""Threads of a sweep: as many as the process has cores, each with scratch arrays of its own."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

Job = TypeVar("Job")
Scratch = TypeVar("Scratch")


def num_threads() -> int:
    """Threads the sweep uses: the cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[Job, Scratch], object],
    scratch: Callable[[], Scratch],
    *,
    threads: int,
) -> None:
    """``work(job, scratch)`` for every job; each thread has one scratch and takes the next job."""
    queue: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        queue.put(job)

    def drain(_: int) -> None:
        own = scratch()
        while True:
            try:
                job = queue.get_nowait()
            except Empty:
                return
            work(job, own)

    with ThreadPoolExecutor(max_workers=threads) as pool:
        list(pool.map(drain, range(threads)))
