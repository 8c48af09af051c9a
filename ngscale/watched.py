"""A command under ``ulimit -v``: what a library does that runs out of memory becomes exit 6."""

import os
import resource
import signal
import sys

from ngscale.errors import ResourceError
from ngscale.units import format_bytes

_PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""
_LOADER_CODE = 127
"""glibc's loader exits with it where thread-local data finds no memory."""
_LIBRARY_ENDS = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, _LOADER_CODE)


def go_on_in_a_child() -> None:
    """Return in a child process, where address space is limited; elsewhere nothing is done.

    This process waits, passes on what is sent to it, and ends as the child does. LLVM, OpenMP and
    the loader of shared libraries end their process where memory runs out: that is exit 6 here.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or sys.platform != "linux":
        return
    awaited = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        return
    code = _wait(child, awaited)
    if code in _LIBRARY_ENDS:
        sys.stderr.write(
            f"error: out of memory: a library ended the command within {format_bytes(limit)} of "
            "address space; raise ulimit -v\n"
        )
        sys.exit(ResourceError.exit_code)
    sys.exit(code if code >= 0 else 128 - code)


def _wait(child: int, awaited: set[signal.Signals]) -> int:
    """The child's exit code, or less a signal that ended it."""
    while True:
        received = signal.sigwaitinfo(awaited)
        if received.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif received.si_pid:  # a terminal's Ctrl-C comes from nobody, and to the child as well
            os.kill(child, received.si_signo)
