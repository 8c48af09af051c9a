"""What a run needs at least, against what there is, before anything is allocated."""

import os
import resource
from pathlib import Path

import torch

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.errors import ResourceError
from ngscale.params import parameter_groups
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.distributed import World
from ngscale.units import format_bytes

_FLOAT_BYTES = 4


def least_bytes(arm: Arm, training: Training, world: World) -> int:
    """A lower bound of one rank's memory in bytes, all in float32.

    The backbone four times (weights, gradients, AdamW's two moments), the rank's share of the
    tables' weights, and the logits of its share of a batch twice (with their logarithms): training
    holds few of them at a time, evaluation holds all, in one part. Not counted: other activations,
    and the state of rows as they are seen.
    """
    groups = parameter_groups(arm.design)
    tables = groups.get("ngram_tables", 0)
    backbone = sum(groups.values()) - tables
    tokens = training.tokens_per_step // world.size
    vocab_size = DecoderConfig.of(arm.design.model).vocab_size
    floats = 4 * backbone + -(-tables // world.size) + 2 * tokens * vocab_size
    return _FLOAT_BYTES * floats


def check_memory(arm: Arm, training: Training, world: World, device: torch.device) -> None:
    """Refuse an arm that cannot fit.

    Raises:
        ResourceError: names the arm, what it needs and what there is.
    """
    needed = least_bytes(arm, training, world)
    free = free_bytes(device)
    if free is not None and needed > free:
        raise ResourceError(
            f"arm {arm.name}: needs at least {format_bytes(needed)} on {device.type}, "
            f"{format_bytes(free)} are free; use a smaller design, a smaller batch, or torchrun "
            "with more ranks"
        )


def free_bytes(device: torch.device) -> int | None:
    """Memory that this rank can still have; None where the system does not tell."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shared = [limit // ranks_here for limit in (_meminfo(), _cgroup()) if limit is not None]
    own = _address_space()
    return min(shared if own is None else [*shared, own], default=None)


def _meminfo() -> int | None:
    """MemAvailable of Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = fields.get("MemAvailable")
    return None if found is None else 1024 * int(found.split()[0])


def _cgroup() -> int | None:
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


def _address_space() -> int | None:
    """What ``ulimit -v`` leaves."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return soft
    return soft - pages * resource.getpagesize()
