"""Memory that this process can still have; what does not fit is refused with its estimate first.

Three limits, of which any may be missing: the machine's, the container's (cgroup v2) and the
process's own (``ulimit -v``, RLIMIT_AS).
"""

import os
import resource
from pathlib import Path

from ngscale.errors import ResourceError
from ngscale.units import format_bytes

_START_BYTES = {"arithmetic": 2**28, "kernels": 9 * 2**27, "torch": 7 * 2**28}
"""Address space that a verb takes on two processors before its input is large.

Measured as VmPeak of a small run less VmSize of a process that has imported the command line:
audit of a preset 171 MiB; collisions of a text of 240 KB 1,016 MiB, of which numba and every kernel
are 301; train-small of the same 1,561 MiB, of which PyTorch and what uses it are 1,011.
"""
_PROCESSOR_BYTES = 2**26
"""More of it for every further processor: the stack and the arena of a thread, at least."""
_VERBS = {
    "audit": "arithmetic",
    "budget": "arithmetic",
    "ids": "arithmetic",
    "corpora": "arithmetic",
    "collisions": "kernels",
    "cache": "kernels",
    "probe": "torch",
    "decode": "torch",
    "train-small": "torch",
    "plan": "torch",
}


def expect(what: str, num_bytes: int, way_out: str, free: int | None) -> None:
    """Refuse what needs more than is free, before any of it is taken.

    Raises:
        ResourceError: names both numbers.
    """
    if free is not None and num_bytes > free:
        raise ResourceError(
            f"{what}: needs at least {format_bytes(num_bytes)} of memory, "
            f"{format_bytes(max(free, 0))} are free; {way_out}"
        )


def expect_start(verb: str) -> None:
    """See that a verb's libraries can be loaded: they end the process where address space does.

    Raises:
        ResourceError: ``ulimit -v`` leaves less than they take.
    """
    if verb in _VERBS:
        further = max(0, (os.cpu_count() or 1) - 2)
        needed = _START_BYTES[_VERBS[verb]] + further * _PROCESSOR_BYTES
        expect(f"{verb}, to start", needed, "raise ulimit -v", address_space_bytes())


def free_bytes() -> int | None:
    """The least of the three; None where the system tells none."""
    limits = (machine_bytes(), container_bytes(), address_space_bytes())
    return min((limit for limit in limits if limit is not None), default=None)


def machine_bytes() -> int | None:
    """MemAvailable of Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = fields.get("MemAvailable")
    return None if found is None else 1024 * int(found.split()[0])


def container_bytes() -> int | None:
    """What a container's limit leaves (cgroup v2), files' pages counted as free."""
    root = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (root / name).read_text().strip() for name in ("memory.max", "memory.current")
        )
        stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - int(used) + int(stat.get("file", "0"))


def address_space_bytes() -> int | None:
    """What ``ulimit -v`` leaves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return soft
    return soft - pages * resource.getpagesize()
