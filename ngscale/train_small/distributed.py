"""One run on several processes: who takes part, what is summed, which rows each of them holds.

``torchrun`` starts the processes; a run without it is a world of one, which communicates nothing.
"""

import atexit
import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ngscale.errors import ResourceError, UsageError

TIMEOUT_S = 50
"""A rank that was killed closes its connections, which ends the others at once; one that hangs or
loses its network ends them after this long."""
CHECKPOINT_TIMEOUT_S = 1800
"""For the group that waits while files are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among those of the run."""

    rank: int = 0
    size: int = 1

    @property
    def files(self) -> dist.ProcessGroup | None:
        """The group that coordinates files, with a longer timeout; None in a world of one."""
        return _groups[-1] if self.size > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0


ALONE = World()
_groups: list[dist.ProcessGroup] = []
"""Of this process's world, held nowhere else: the last reference to go joins gloo's threads. One of
them that is alive while Python finalises takes the GIL to free a tensor, and the process aborts
(``terminate called without an active exception``, pytorch/pytorch#179291)."""


def join_world(device: torch.device) -> World:
    """The world that ``torchrun`` started this process in (RANK, WORLD_SIZE); else a world of one.

    Raises:
        ResourceError: the other processes cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                timeout=datetime.timedelta(seconds=TIMEOUT_S),
            )
        except (RuntimeError, ValueError) as error:
            raise ResourceError(f"WORLD_SIZE {size}: the ranks do not meet: {error}") from error
        atexit.register(_leave)  # however this process ends, before Python finalises
        wait = datetime.timedelta(seconds=CHECKPOINT_TIMEOUT_S)
        _groups.append(dist.new_group(backend="gloo", timeout=wait))
    return World(rank=dist.get_rank(), size=size)


def is_first() -> bool:
    """Whether this process is the one that answers; known before the ranks have met."""
    return os.environ.get("RANK", "0") == "0"


def leave_world(world: World) -> None:
    """After the last word with the other ranks."""
    if world.size > 1:
        _leave()


def _leave() -> None:
    atexit.unregister(_leave)
    _groups.clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def local_device(kind: str) -> torch.device:
    """The CPU, or the CUDA device of this process on its machine."""
    if kind == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(kind)


def share(batch_size: int, world: World) -> int:
    """Blocks of a batch that each rank takes.

    Raises:
        UsageError: the ranks do not divide the batch.
    """
    if batch_size % world.size:
        raise UsageError(
            f"batch_size {batch_size} is no multiple of WORLD_SIZE {world.size}; "
            "use a number of processes that divides it"
        )
    return batch_size // world.size


def shard_bounds(num_rows: int, world: World) -> tuple[int, int]:
    """First row of this rank's share and the one after its last: ceil(rows / size) each."""
    per_rank = -(-num_rows // world.size)
    return min(world.rank * per_rank, num_rows), min((world.rank + 1) * per_rank, num_rows)


def sum_over(tensor: Tensor, world: World) -> Tensor:
    """Sum ``tensor`` over the ranks, in place."""
    if world.size > 1:
        dist.all_reduce(tensor)
    return tensor


def gathered(tensor: Tensor, world: World) -> Tensor:
    """The ranks' tensors of equal shape, one below the other."""
    if world.size == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world.size)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def agreed(value: float, world: World) -> float:
    """What the first rank says, where the ranks' own values may differ, as those of clocks do."""
    if world.size == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, group=world.files)
    return box[0]


def wait_for_all(world: World) -> None:
    """Return once every rank is here."""
    if world.size > 1:
        dist.barrier(group=world.files)
