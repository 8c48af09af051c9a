"""Resident memory that nobody reads: pages of mapped files, and what was freed but kept."""

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

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
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
