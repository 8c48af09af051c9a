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
    _directory = tempfile.mkdtemp(prefix="ngscale-kernels-")
    numba.config.CACHE_DIR = _directory  # type: ignore[attr-defined]
    atexit.register(shutil.rmtree, _directory, ignore_errors=True)
