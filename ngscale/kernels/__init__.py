"""Every @njit function: untyped, pure loops over arrays. Plain twins: tests/reference.py.

Compiled code is kept beside the source or in the user's cache directory. Where neither can be
written (an installation of somebody else's, no home) numba refuses to define such a function;
then it is kept in a temporary directory, and compiled anew by every process.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numba

_settings: Any = numba.config


def _kept() -> None:
    pass


def _has_place() -> bool:
    if not _settings.CACHE_DIR and not os.environ.get("XDG_CACHE_HOME"):
        try:
            Path.home()
        except RuntimeError:  # numba would make a directory called ~ in the current one
            return os.access(Path(__file__).parent, os.W_OK)
    try:
        numba.njit(cache=True)(_kept)
    except RuntimeError:  # "no locator available for file"
        return False
    return True


if not _has_place():
    _directory = tempfile.mkdtemp(prefix="ngscale-kernels-")
    _settings.CACHE_DIR = _directory
    atexit.register(shutil.rmtree, _directory, ignore_errors=True)
