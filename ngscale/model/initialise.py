"""Initial weights as a function of (seed, tensor name, slice), whatever else the model has.

Each tensor, and each expert or table within a stacked one, draws from a generator of its own. Two
models therefore start equal in every weight they share: expert 3 of layer 0 is the same in a
model of 16 experts and in one of 40.
"""

import hashlib

import torch
from torch import Tensor, nn


def undrawn_embedding(num_rows: int, width: int, *, sparse: bool = False) -> nn.Embedding:
    """An ``nn.Embedding`` of zeros: its own draw takes long for tables, and is thrown away.

    Zeros that are allocated touch no memory; one fill of it is left, that of ``initialise``.
    """
    zeros = torch.zeros(num_rows, width)
    made: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        zeros, freeze=False, sparse=sparse
    )
    return made


@torch.no_grad()
def fill_normal(weight: Tensor, *, std: float, seed: int, name: str) -> None:
    """Fill ``weight`` with N(0, std**2), drawn on the CPU so that every device starts equal."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def fill_slices(weight: Tensor, *, std: float, seed: int, name: str) -> None:
    """``fill_normal`` for each slice along the first axis, under the names ``name.0``, ..."""
    for index, part in enumerate(weight):
        fill_normal(part, std=std, seed=seed, name=f"{name}.{index}")
