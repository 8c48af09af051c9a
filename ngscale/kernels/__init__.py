"""Every @njit function: untyped, pure loops over arrays. Plain twins: tests/reference.py.

Compiled code is kept beside the source or in the user's cache directory. Where neither can be
written (an installation of somebody else's, no home) numba refuses to define such a function;
then it is kept in a temporary directory, and compiled anew by every process.
"""

import atexit
import shutil
import tempfile

import numba


def _kept() -> None:
    pass


try:
    numba.njit(cache=True)(_kept)
except RuntimeError:  # "no locator available for file"
    numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="ngscale-kernels-")
    atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)
