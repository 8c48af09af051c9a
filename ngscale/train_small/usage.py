"""What the training reached: rows of the tables, experts of the layers."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ngscale.hashing.stream import NO_ROW
from ngscale.hashing.torch_twin import NgramHash
from ngscale.spec import NgramSpec
from ngscale.train_small.data import Blocks
from ngscale.train_small.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUse:
    """One table after a run. A row is updated once by a step that looks it up, however often."""

    table: int
    order: int
    num_rows: int
    touched_rows: int
    """Rows with at least one gradient."""
    updates_per_touched_row: float
    """Mean; 0 without any."""
    median_updates: float
    """Of the rows that were touched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLoad:
    """Where the router of one layer sends the held-out tokens after the last step."""

    layer: int
    num_experts: int
    """Zero experts included."""
    max_over_mean: float
    """Load of the busiest; 1 is balanced."""
    effective_experts: float
    """exp of the entropy of the load."""
    idle_experts: int
    """Those that got no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What is measured of one run beside its losses."""

    tables: tuple[TableUse, ...]
    layers: tuple[LayerLoad, ...]
    tokens_per_s: float
    """On this machine, evaluations included: no part of a record."""


def table_use(trainer: Trainer) -> tuple[TableUse, ...]:
    """Rows touched and steps that updated them, counted from the batches of the run.

    Not of hashes over compressed ids, whose map is no part of a config.
    """
    found: list[TableUse] = []
    for spec in trainer.arm.design.ngrams:
        if spec.compressed_vocab is None:
            found += _count(
                spec,
                trainer.blocks,
                seed=trainer.seed,
                num_steps=trainer.num_steps,
                batch_size=trainer.training.batch_size,
            )
    return tuple(found)


def _count(
    spec: NgramSpec, blocks: Blocks, *, seed: int, num_steps: int, batch_size: int
) -> list[TableUse]:
    row_ids = NgramHash(spec)
    updates = [np.zeros(spec.readable_rows(i), np.int64) for i in range(spec.num_tables)]
    for step in range(num_steps):
        batch = torch.from_numpy(blocks.batch(seed=seed, step=step, batch_size=batch_size))
        found = row_ids.look_up(batch[:, :-1])
        ids = found.ids if found.reads is None else found.ids.masked_fill(~found.reads, NO_ROW)
        for i, counts in enumerate(updates):
            looked_up = np.unique(ids[..., i].numpy())
            counts[looked_up[looked_up != NO_ROW]] += 1
    return [_summary(i, spec.table_orders[i], counts) for i, counts in enumerate(updates)]


def _summary(table: int, order: int, updates: np.ndarray) -> TableUse:
    touched = updates[updates > 0]
    return TableUse(
        table=table,
        order=order,
        num_rows=len(updates),
        touched_rows=len(touched),
        updates_per_touched_row=float(touched.mean()) if len(touched) else 0.0,
        median_updates=float(np.median(touched)) if len(touched) else 0.0,
    )


def layer_loads(trainer: Trainer) -> tuple[LayerLoad, ...]:
    """Load of every router in the last evaluation (of a rank: over its share of the blocks)."""
    return tuple(
        _load(layer, router.eval_load.cpu().numpy())
        for layer, router in enumerate(trainer.decoder.routers())
    )


def _load(layer: int, counts: np.ndarray) -> LayerLoad:
    shares = counts[counts > 0] / counts.sum()
    return LayerLoad(
        layer=layer,
        num_experts=len(counts),
        max_over_mean=float(counts.max() / counts.mean()),
        effective_experts=math.exp(-float((shares * np.log(shares)).sum())),
        idle_experts=int((counts == 0).sum()),
    )
