"""Resident memory that nobody reads: pages of mapped files, and what was freed but kept."""

import contextlib
import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""
AROUND_BYTES = 2**21
"""Pages of a file that a fault maps besides its own, before and after: at most a huge page."""


def let_go(array: NDArray[Any]) -> None:
    """Unmap the pages of a read-only file that an array views; a later access maps them again.

    Other arrays lose nothing.
    """
    pages: object = array
    while isinstance(pages, np.ndarray):
        pages = pages.base
    if getattr(array, "mode", "") != "r" or not isinstance(pages, mmap.mmap):
        return
    origin, end = byte_bounds(np.frombuffer(pages, np.uint8))
    first, last = byte_bounds(array)
    start = max(first - AROUND_BYTES - origin, 0) // mmap.PAGESIZE * mmap.PAGESIZE
    pages.madvise(mmap.MADV_DONTNEED, start, min(last + AROUND_BYTES, end) - origin - start)


def give_back() -> None:
    """Hand what every thread has freed to the system; glibc keeps up to 64 MB of it a thread."""
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


def give_back_when_freed() -> None:
    """Have glibc map and unmap every block of a mebibyte and more by itself.

    Else its threshold grows with what is freed, and weights that are dropped stay in the process's
    heaps: measured twice to three times the memory in use.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)
