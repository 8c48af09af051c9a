"""NgramEmbedding, forward and backward, beside the released modelling code's way, in one run.

The peer is written from what LongCat-Flash-Lite's ``modeling_longcat_ngram.py`` does: for every
order a shift by a loop over sequences and over their EOS, then for every table a hash, an
``nn.Embedding``, an ``nn.Linear`` and an addition. Contestants share their weights, are asserted
to give equal outputs and gradients, and take turns, so that a busy machine slows all alike.
Printed: median processor milliseconds, and the median of the ratios within a round.

    python -m benchmarks.ngram_embedding
    python -m benchmarks.ngram_embedding --rounds 100 --threads 2
"""

import argparse
import statistics
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import torch_rows
from benchmarks.torch_rows import EOS, looped_shift
from ngscale.model import NgramEmbedding
from ngscale.policy import mode_policy
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, longcat_spec


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One contest."""

    name: str
    vocab_size: int
    hidden_size: int
    max_order: int
    num_subtables: int
    ratio: float
    batch: int
    length: int
    every: int
    """Tokens from EOS to EOS."""

    @property
    def spec(self) -> NgramSpec:
        """LongCat's sizes."""
        return longcat_spec(
            vocab_size=self.vocab_size,
            max_order=self.max_order,
            num_subtables=self.num_subtables,
            table_rows=longcat_rows(
                self.ratio, self.vocab_size, (self.max_order - 1) * self.num_subtables
            ),
            policy=mode_policy("hf", EOS),
        )

    def tokens(self) -> Tensor:
        """Seeded ids with documents of ``every`` tokens."""
        ids = np.random.default_rng(0).integers(
            EOS + 1, self.vocab_size, size=(self.batch, self.length)
        )
        ids[:, self.every - 1 :: self.every] = EOS
        return torch.from_numpy(ids)


SHAPES = (
    Shape(
        name="train-small's default",
        vocab_size=4096,
        hidden_size=128,
        max_order=3,
        num_subtables=2,
        ratio=4.3,
        batch=4,
        length=256,
        every=64,
    ),
    Shape(
        name="LongCat-Flash-Lite's ratio, orders and sub-tables, V 4096, D 384",
        vocab_size=4096,
        hidden_size=384,
        max_order=4,
        num_subtables=4,
        ratio=78,
        batch=4,
        length=256,
        every=64,
    ),
    Shape(
        name="the same, four times the batch",
        vocab_size=4096,
        hidden_size=384,
        max_order=4,
        num_subtables=4,
        ratio=78,
        batch=8,
        length=512,
        every=64,
    ),
)


class Released(nn.Module):
    """As the released code: lists of E embeddings and E projections, loops over both."""

    def __init__(self, mine: NgramEmbedding) -> None:
        super().__init__()
        self.spec = mine.spec
        self.word_embeddings = nn.Embedding.from_pretrained(
            mine.word_embeddings.weight.detach().clone(), freeze=False
        )
        tables = [mine.table(i).detach().clone() for i in range(self.spec.num_tables)]
        self.embedders = nn.ModuleList(
            nn.Embedding.from_pretrained(t, freeze=False) for t in tables
        )
        self.post_projs = nn.ModuleList()
        for i in range(self.spec.num_tables):
            weight = mine.table_projection(i).detach().clone()
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = nn.Parameter(weight)
            self.post_projs.append(linear)

    def forward(self, ids: Tensor) -> Tensor:
        """``(W[t] + sum_i P_i T_i[id_i]) / (1 + E)``."""
        spec = self.spec
        x = self.word_embeddings(ids).clone()
        shifted = {s: looped_shift(ids, s) for s in range(1, spec.max_order)}
        for i, (order, rows) in enumerate(zip(spec.table_orders, spec.table_rows, strict=True)):
            total, weight = ids.clone(), 1
            for s in range(1, order):
                weight = weight * spec.vocab_size % rows
                total = total + shifted[s] * weight
            x = x + self.post_projs[i](self.embedders[i](total % rows))
        average: Tensor = x / (1 + spec.num_tables)
        return average


def step(module: nn.Module, ids: Tensor, upstream: Tensor) -> Tensor:
    """One forward and backward from no gradients, as a trainer does."""
    module.zero_grad(set_to_none=True)
    out: Tensor = module(ids)
    out.backward(upstream)
    return out


def dense(weight: Tensor) -> Tensor:
    """Its gradient."""
    assert weight.grad is not None
    return weight.grad.to_dense()


def check(mine: NgramEmbedding, peer: Released, ids: Tensor, upstream: Tensor) -> None:
    """Outputs and gradients agree."""
    torch.testing.assert_close(step(mine, ids, upstream), step(peer, ids, upstream))
    assert mine.projection is not None
    for one, others, rows in (
        (mine.word_embeddings.weight, [peer.word_embeddings.weight], 0),
        (mine.tables.weight, [*peer.embedders.parameters()], 0),
        (mine.projection.weight, [*peer.post_projs.parameters()], 1),
    ):
        expected = torch.cat([dense(other) for other in others], dim=rows)
        torch.testing.assert_close(dense(one), expected, rtol=1e-4, atol=1e-3)


def contest(shape: Shape, rounds: int) -> None:
    """Ours, eager, against the peer."""
    ids = shape.tokens()
    upstream = torch.randn(
        *ids.shape, shape.hidden_size, generator=torch.Generator().manual_seed(2)
    )
    ours: dict[str, NgramEmbedding] = {}
    for name, sparse in (("ngscale", False), ("ngscale, sparse", True)):
        ours[name] = NgramEmbedding(
            shape.vocab_size, shape.hidden_size, shape.spec, sparse_gradient=sparse
        )
        ours[name].initialise(0)
        nn.init.normal_(ours[name].tables.weight, generator=torch.Generator().manual_seed(1))
    peer = Released(ours["ngscale"])
    for mine in ours.values():
        check(mine, peer, ids, upstream)
    contestants: dict[str, nn.Module] = {**ours, "as released": peer}
    calls = {name: partial(step, module, ids, upstream) for name, module in contestants.items()}
    times = torch_rows.contest(calls, rounds)
    print(
        f"{shape.name}: {shape.batch} x {shape.length} tokens, {shape.spec.num_tables} tables of "
        f"{shape.spec.table_rows[0]:,} rows, an EOS every {shape.every} tokens"
    )
    for name, values in times.items():
        spread = f"({min(values):.2f}..{max(values):.2f})"
        ratio = torch_rows.median_ratio(times["as released"], values)
        told = f"as released takes {ratio:.2f} x" if name in ours else ""
        print(f"  {name:16s}{statistics.median(values):9.2f} ms {spread:22s}{told}")


def main() -> None:
    """Run every shape."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for shape in SHAPES:
        contest(shape, options.rounds)


if __name__ == "__main__":
    main()
