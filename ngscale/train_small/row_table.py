"""Embedding tables whose gradient is what was looked up: ids and rows, never a dense tensor.

Letters: R look-ups of a rank in one call, W ranks, d columns.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ngscale.model.decoder import Decoder
from ngscale.tensor_groups import group_of
from ngscale.train_small.distributed import World, gathered, shard_bounds


class RowTable(nn.Module):
    """In the place of an ``nn.Embedding``: the same rows, of which a rank holds its share.

    ``pending`` takes the gradients of each backward pass, as (ids, rows) in the share's own
    numbers; an id of ``len(weight)`` is a row of another rank. ``weight.grad`` stays None.
    """

    def __init__(self, weight: Tensor, world: World) -> None:
        super().__init__()
        self.world = world
        self.num_rows = len(weight)
        self.start, self.end = shard_bounds(self.num_rows, world)
        mine = (
            weight.detach() if world.size == 1 else weight.detach()[self.start : self.end].clone()
        )
        self.weight = nn.Parameter(mine)
        self.pending: list[tuple[Int64[Tensor, " n"], Float[Tensor, "n d"]]] = []

    def forward(self, ids: Tensor) -> Tensor:
        """The rows of ``ids`` [...], which count over all ranks' rows: [..., d]."""
        rows: Tensor = _LookUp.apply(  # type: ignore[no-untyped-call]
            self.weight, ids.flatten(), self
        )
        return rows.view(*ids.shape, -1)

    def own(self, ids: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
        """``ids`` in this share's numbers; ``len(weight)`` for the rows of others."""
        held = (ids >= self.start) & (ids < self.end)
        return torch.where(held, ids - self.start, len(self.weight))

    @torch.no_grad()
    def join_shares(self) -> None:
        """Hold all rows from now on, as a table of one rank does."""
        if self.world.size > 1:
            per_rank = -(-self.num_rows // self.world.size)
            padded = self.weight.new_zeros(per_rank, self.weight.shape[1])
            padded[: len(self.weight)] = self.weight
            whole = gathered(padded, self.world)[: self.num_rows]
            self.world = World()
            self.start, self.end = 0, self.num_rows
            self.weight = nn.Parameter(whole)


class _LookUp(torch.autograd.Function):
    """Rows of ids; among W ranks each reads what it holds of everybody's ids.

    Every rank sends every other R rows, zero where it does not hold them: all sizes are known
    before, so that no device waits for the host. Exactly one of the W rows added up is not zero:
    the sum is the row, bit for bit.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, table: RowTable) -> Tensor:
        ctx.table = table
        world = table.world
        if world.size == 1:
            ctx.own = ids
            return weight.index_select(0, ids)
        ctx.own = table.own(gathered(ids, world))
        read = weight.new_zeros(len(ctx.own), weight.shape[1])
        if len(weight):
            held = ctx.own < len(weight)
            read = weight.index_select(0, torch.where(held, ctx.own, 0))
            read = read.masked_fill(~held.unsqueeze(1), 0)
        received = torch.empty_like(read)
        dist.all_to_all_single(received, read)
        return received.view(world.size, len(ids), -1).sum(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:
        world = ctx.table.world
        # The loss is the mean over ranks, as DistributedDataParallel takes it.
        rows = grad if world.size == 1 else gathered(grad, world) / world.size
        ctx.table.pending.append((ctx.own, rows))
        return None, None, None


def put_row_tables(decoder: Decoder, world: World) -> None:
    """Replace the decoder's n-gram tables; their names and initial rows stay."""
    for name, module in list(decoder.named_modules()):
        if isinstance(module, nn.Embedding) and group_of(f"{name}.weight") == "ngram_tables":
            parent, _, child = name.rpartition(".")
            setattr(decoder.get_submodule(parent), child, RowTable(module.weight, world))


def row_tables(decoder: Decoder) -> Iterator[tuple[str, RowTable]]:
    """The tables by the names of their weights in the decoder's state dict."""
    for name, module in decoder.named_modules():
        if isinstance(module, RowTable):
            yield f"{name}.weight", module
