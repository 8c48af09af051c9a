"""What a run needs at least, against what there is, before anything is allocated."""

import os

import torch

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.free_memory import (
    address_space_bytes,
    container_bytes,
    expect,
    machine_bytes,
)
from ngscale.params import parameter_groups
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.distributed import World

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
    expect(
        f"arm {arm.name} on {device.type}",
        least_bytes(arm, training, world),
        "use a smaller design, a smaller batch, or torchrun with more ranks",
        free_bytes(device),
    )


def free_bytes(device: torch.device) -> int | None:
    """Memory that this rank can still have; None where the system does not tell."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shared = [
        limit // ranks_here for limit in (machine_bytes(), container_bytes()) if limit is not None
    ]
    own = address_space_bytes()
    return min(shared if own is None else [*shared, own], default=None)
