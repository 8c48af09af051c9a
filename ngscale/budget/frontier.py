"""Designs of one total and one number of active parameters, and those that no other dominates.

Axes: bytes of weights in HBM, bytes read per token, and the predicted loss less that of the MoE of
equal total, by one named source and only where that source has evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from ngscale.budget import memory
from ngscale.budget.evidence.differences import loss_difference
from ngscale.budget.evidence.fixed_total import Difference
from ngscale.budget.limits import Limits
from ngscale.budget.trade import Mixture, Trade, mixtures, trades
from ngscale.design import Design
from ngscale.errors import NoResultError
from ngscale.params import Dtype, bytes_per_parameter, moe_of
from ngscale.row_counts import longcat_rows
from ngscale.spec import order_major
from ngscale.table_sizes import sound_ratios
from ngscale.units import format_bytes, format_count

Placement = Literal["none", "hbm", "host"]
"""Where the tables are."""

MAX_SHARE = 0.7
SHAPES = tuple((N, K) for N in (2, 3, 4, 5) for K in (1, 2, 4))
_MAX_COUNTS = 160
"""Numbers of experts tried of each width."""
_MAX_SHOWN = 48
"""Designs of the frontier that are given sound sizes, evenly spread over the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A design with its tables somewhere, and where it lies on every axis."""

    trade: Trade
    placement: Placement
    hbm_bytes: int
    """Weights and the caches of the batch."""
    host_bytes: int
    read_bytes: float
    """Per token: weights shared by the batch, and its own rows (``read_bytes_per_token``)."""
    difference: Difference
    ratio: float | None = None
    """Of LongCat's formula, at which all its tables are sound; None before it is sought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """Designs that are dominated by none."""

    designs: tuple[Placed, ...]
    """By share of the tables, all with sound sizes."""
    baseline: Placed
    """The model without tables and with as many experts as the total takes."""
    own_width: tuple[Placed, ...]
    """Every feasible design with tables whose experts are as wide as the model's, in one shape of
    tables, by share; sizes not yet sound."""
    num_designs: int
    """Feasible ones, every placement apart."""
    num_on_frontier: int
    """Before it was thinned."""
    has_loss: bool
    """Whether the source has evidence for any design with tables."""


def frontier(design: Design, limits: Limits) -> Frontier:
    """The frontier over shares of 0 to 70%, tables of every (N, K), experts of several widths.

    Raises:
        NoResultError: the total cannot hold the model, or nothing fits the limits.
        SpecError: the model has no experts that could vary.
    """
    made = mixtures(design.model, limits.active_parameters, limits.dtype)
    caches = limits.num_sequences * sum(
        line.value for line in memory.cache(design, limits.context_tokens, limits.cache_dtype)[2:]
    )
    own = _own_width(design, made)
    designs = [
        placed
        for mixture in made
        for trade in trades(
            mixture,
            limits.total_parameters,
            SHAPES,
            max_share=MAX_SHARE,
            max_counts=_MAX_COUNTS,
        )
        for placed in _places(trade, caches, limits)
    ]
    baselines = [one for one in designs if not one.trade.num_tables and one.trade.mixture is own]
    if not baselines:
        least = own.at(own.total, own.top_k)
        raise NoResultError(
            f"--total {format_count(limits.total_parameters)}: this model needs "
            f"{format_count(least)} with {own.top_k} experts in a layer; raise the total"
        )
    feasible = [one for one in designs if _fits(one, limits)]
    if not feasible:
        smallest = min(designs, key=lambda one: (one.hbm_bytes, one.host_bytes))
        raise NoResultError(
            f"nothing fits: the smallest design needs {format_bytes(smallest.hbm_bytes)} of HBM "
            f"and {format_bytes(smallest.host_bytes)} of host memory, there are "
            f"{_told(limits.hbm_bytes)} and {_told(limits.host_bytes)}; raise --hbm, --gpus or "
            "--host-memory, or lower --total"
        )
    best = [feasible[i] for i in np.flatnonzero(_undominated(feasible)).tolist()]
    best = _one_of_equals(best, design)
    alike = [one for one in feasible if one.trade.mixture is own and one.trade.num_tables]
    return Frontier(
        designs=tuple(_sound(_thinned(sorted(best, key=_by_share)))),
        baseline=baselines[0],
        own_width=tuple(sorted(_one_of_equals(alike, design), key=_by_share)),
        num_designs=len(feasible),
        num_on_frontier=len(best),
        has_loss=any(one.difference.nats is not None for one in feasible if one.trade.num_tables),
    )


def _told(amount: int | None) -> str:
    return "any" if amount is None else format_bytes(amount)


def _own_width(design: Design, made: Sequence[Mixture]) -> Mixture:
    """The mixture with the model's width of experts, or else the first."""
    width = moe_of(design.model).expert.intermediate_size
    return next((one for one in made if one.intermediate_size == width), made[0])


def _places(trade: Trade, caches: int, limits: Limits) -> list[Placed]:
    """The design with its tables in HBM and, where there is any, in host memory."""
    mixture = trade.mixture
    table_bytes = trade.ngram_parameters * bytes_per_parameter(limits.dtype)["ngram_tables"]
    weights = mixture.at(mixture.weight_bytes, trade.num_experts)
    weights += _projection_bytes(trade, limits.dtype)
    difference = loss_difference(limits.source, trade.facts(limits.training_tokens))
    one = Placed(
        trade=trade,
        placement="hbm" if trade.num_tables else "none",
        hbm_bytes=weights + table_bytes + caches,
        host_bytes=0,
        read_bytes=read_bytes_per_token(trade, limits.num_sequences, limits.dtype),
        difference=difference,
    )
    if not trade.num_tables or limits.host_bytes is None:
        return [one]
    away = replace(one, placement="host", hbm_bytes=weights + caches, host_bytes=table_bytes)
    return [one, away]


def _projection_bytes(trade: Trade, dtype: Dtype) -> int:
    columns = trade.num_tables * trade.table_width
    width = bytes_per_parameter(dtype)["ngram_projections"]
    return columns * trade.mixture.model.hidden_size * width


def read_bytes_per_token(trade: Trade, num_tokens: int, dtype: Dtype) -> float:
    """Weights read in one decoding step of ``num_tokens`` sequences, per token, and a token's rows.

    ``(W + L E (1 - (1 - k/R)^B) w) / B + rows``: W what all tokens read, w an expert's bytes, R the
    router's rows (zero experts included), tokens choosing evenly and apart. Caches are the same
    for all designs and left out.
    """
    mixture = trade.mixture
    shared = mixture.at(mixture.read_bytes, trade.num_experts) + _projection_bytes(trade, dtype)
    experts = mixture.experts_read(trade.num_experts, num_tokens) * mixture.expert_bytes
    columns = trade.num_tables * trade.table_width
    return (shared + experts) / num_tokens + columns * bytes_per_parameter(dtype)["ngram_tables"]


def _fits(one: Placed, limits: Limits) -> bool:
    return (limits.hbm_bytes is None or one.hbm_bytes <= limits.hbm_bytes) and (
        limits.host_bytes is None or one.host_bytes <= limits.host_bytes
    )


def _undominated(designs: Sequence[Placed]) -> Bool[np.ndarray, " designs"]:
    """Which of them no other is at least as good as on every axis and better on one.

    Designs with a predicted loss and those without are compared among their own: no number stands
    for what is not known.
    """
    kept = np.zeros(len(designs), dtype=bool)
    known = np.array([one.difference.nats is not None for one in designs])
    for has_loss in (True, False):
        where = np.flatnonzero(known == has_loss).tolist()
        if len(where):
            axes = np.array(
                [
                    [designs[i].hbm_bytes, designs[i].read_bytes, designs[i].difference.nats or 0.0]
                    for i in where
                ]
            )
            kept[where] = undominated(axes)
    return kept


def undominated(axes: Float64[np.ndarray, "designs axes"]) -> Bool[np.ndarray, " designs"]:
    """Rows that no other is at or below everywhere and below somewhere; less is better."""
    left = np.argsort(axes.sum(axis=1), kind="stable")
    rows, at = axes[left], 0
    while at < len(rows):
        row = rows[at]
        stays = (rows < row).any(axis=1) | (rows == row).all(axis=1)
        left, rows, at = left[stays], rows[stays], int(stays[:at].sum()) + 1
    kept = np.zeros(len(axes), dtype=bool)
    kept[left] = True
    return kept


def _one_of_equals(designs: Sequence[Placed], design: Design) -> list[Placed]:
    """Of designs with the same experts and placement one shape of tables: on no axis does (N, K)
    tell but by rounding. The design's own, else N = 4 and K = 4, else the one with most tables.
    """
    spec = design.ngrams[0] if len(design.ngrams) == 1 else None
    wanted = (4, 4) if spec is None else (spec.max_order, spec.num_subtables)

    def preference(one: Placed) -> tuple[bool, int]:
        shape = (one.trade.max_order, one.trade.num_subtables)
        return shape == wanted, one.trade.num_tables

    groups: dict[tuple[object, ...], list[Placed]] = {}
    for one in designs:
        trade = one.trade
        key = (trade.mixture.intermediate_size, trade.num_experts, one.placement)
        groups.setdefault(key, []).append(one)
    return [max(equals, key=preference) for equals in groups.values()]


def _by_share(one: Placed) -> tuple[float, int]:
    return one.trade.share, one.trade.num_experts


def _thinned(designs: Sequence[Placed]) -> list[Placed]:
    if len(designs) <= _MAX_SHOWN:
        return list(designs)
    last = len(designs) - 1
    return [designs[round(i * last / (_MAX_SHOWN - 1))] for i in range(_MAX_SHOWN)]


def _sound(designs: Sequence[Placed]) -> list[Placed]:
    """Every design at the nearest ratio whose tables all pass the audit; those without fall out."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for i, one in enumerate(designs):
        by_shape.setdefault((one.trade.max_order, one.trade.num_subtables), []).append(i)
    found: dict[int, Placed] = {}
    for (max_order, num_subtables), members in by_shape.items():
        if not max_order:
            found |= {i: designs[i] for i in members}
            continue
        base = designs[members[0]].trade.mixture.model.vocab_size
        orders = order_major(max_order, num_subtables)
        wanted = [round(designs[i].trade.table_rows / base, 3) for i in members]
        for i, ratio in zip(members, sound_ratios(wanted, base, orders), strict=True):
            if ratio is not None:
                found[i] = at_ratio(designs[i], ratio)
    return [found[i] for i in sorted(found)]


def at_ratio(one: Placed, ratio: float) -> Placed:
    """The same with the sizes that the loaders make of a ratio."""
    trade = one.trade
    base, width = trade.mixture.model.vocab_size, trade.table_width
    total_rows = sum(longcat_rows(ratio, base, trade.num_tables))
    more = total_rows * width - trade.ngram_parameters
    moved = replace(
        trade,
        table_rows=total_rows // trade.num_tables,
        ngram_parameters=trade.ngram_parameters + more,
        total_parameters=trade.total_parameters + more,
    )
    return replace(one, trade=moved, ratio=ratio)


def point(one: Placed) -> dict[str, Any]:
    """As plain JSON."""
    trade = one.trade
    return {
        "experts": trade.num_experts,
        "expert_intermediate_size": trade.mixture.intermediate_size,
        "experts_per_token": trade.mixture.top_k,
        "max_order": trade.max_order or None,
        "subtables": trade.num_subtables or None,
        "ratio": one.ratio,
        "total_parameters": trade.total_parameters,
        "active_parameters": trade.active_parameters,
        "ngram_parameters": trade.ngram_parameters,
        "ngram_share": trade.share,
        "tables_in": one.placement,
        "hbm_bytes": one.hbm_bytes,
        "host_bytes": one.host_bytes,
        "read_bytes_per_token": one.read_bytes,
        "loss_difference": one.difference.nats,
        "loss_difference_low": one.difference.low,
        "loss_difference_high": one.difference.high,
        "loss_sign": one.difference.sign,
        "loss_reason": one.difference.reason,
    }
