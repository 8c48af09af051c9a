"""How much n-grams share rows in a design's tables, on exactly the tokens a cell was trained on."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from ngscale.collisions.expected import IdealHash
from ngscale.collisions.joint import repeated
from ngscale.collisions.metrics import measure
from ngscale.console import say
from ngscale.hashing.registry import gram_scheme
from ngscale.lattice_score import lattice_score
from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.records import dump_json, write_atomic
from ngscale.spec import NgramSpec, PolynomialHash
from ngscale.tokens import TokenStream
from reports.experiments import cells
from reports.experiments.scale import TRAINING, VOCAB_SIZE, Arm

METRICS = {
    "collisions": "n-grams less occupied rows, a table's mean (the paper's count)",
    "sharing": "share of occurrences whose n-gram shares its row",
    "impurity": "1 - purity: share of a token's row traffic that is not its own n-gram's",
    "excess_impurity": "impurity over that of the ideal hash of as many rows",
    "all_k_sharing": "share of occurrences whose n-gram has no row of its own in any table",
    "identity_loss": "share of occurrences with another n-gram in the same row of every table",
    "lattice_score": "the audit's prediction without text, the worst of the tables",
}
"""Means over orders, but for the last."""


def path_of(arm: Arm) -> Path:
    """Where the numbers of an arm are kept: beside its first seed's cell."""
    return cells.STORE / f"{cells.name_of(arm, 0)}-sharing.json"


def measure_missing(arms: list[Arm]) -> None:
    """Of arms that have no file yet."""
    for arm in arms:
        if not path_of(arm).is_file():
            found = _of_design(arm.design.ngrams[0], arm.tokens)
            write_atomic(path_of(arm), dump_json(found).encode())
            say(f"{arm.name}: impurity {found['impurity']:.4f}")


def load(arm: Arm) -> Mapping[str, float]:
    """What was measured of an arm."""
    found: Mapping[str, float] = json.loads(path_of(arm).read_bytes())
    return found


@cache
def _trained_ngrams(tokens: int, orders: tuple[int, ...]) -> dict[int, NgramTable]:
    """Of the blocks that seed 0 is trained on; none crosses a block, as in training."""
    num_blocks = tokens // TRAINING.seq_len
    epochs, chosen = cells.blocks().trained(seed=0, num_blocks=num_blocks)
    assert epochs == 0
    ids = cells.blocks().train.take(chosen)[:, :-1]
    stream = TokenStream(
        tokens=ids.astype(np.uint32).ravel(),
        doc_starts=np.arange(0, ids.size + 1, ids.shape[1], dtype=np.int64),
        vocab_size=VOCAB_SIZE,
        num_bytes=0,
    )
    return count_ngrams(stream, orders=orders)


def _of_design(spec: NgramSpec, tokens: int) -> dict[str, float]:
    counted = _trained_ngrams(tokens, spec.orders)
    found = [_of_order(spec, order, counted[order]) for order in spec.orders]
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    assert isinstance(spec.hash, PolynomialHash)
    scores = [
        lattice_score(rows, spec.hash.base_of(i), spec.table_orders[i])
        for i, rows in enumerate(spec.table_rows)
    ]
    return {**means, "lattice_score": max(scores)}


def _of_order(spec: NgramSpec, order: int, table: NgramTable) -> dict[str, float]:
    own = list(spec.tables_of(order))
    ideal = IdealHash(table, [spec.table_rows[i] for i in own])
    measured, excess = [], []
    shared = np.ones(table.distinct, dtype=np.bool_)
    classes = np.zeros(table.distinct, dtype=np.int64)
    for i in own:
        scheme, rows = gram_scheme(spec.hash, i), spec.table_rows[i]
        one = measure(table, scheme, rows)
        assert one.purity is not None
        measured.append(one)
        excess.append((1 - one.purity) / (1 - ideal.purity_at(rows)))
        row_ids = scheme.rows(table.tokens, rows)
        shared &= repeated(row_ids)
        classes = np.unique(classes * rows + row_ids, return_inverse=True)[1]
    return {
        "collisions": float(np.mean([one.collisions for one in measured])),
        "sharing": float(np.mean([one.token_weighted for one in measured])),
        "impurity": float(np.mean([one.impurity for one in measured])),
        "excess_impurity": float(np.mean(excess)),
        "all_k_sharing": int(table.counts[shared].sum()) / table.occurrences,
        "identity_loss": int(table.counts[repeated(classes)].sum()) / table.occurrences,
    }
