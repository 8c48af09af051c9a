"""A few designs of a total that an architect would compare, each with the config.json to use.

The equal-total MoE, the share that the named evidence likes best, a careful share, and what needs
the least HBM. Each is a whole design: read back from its config.json, counted again, its table
sizes audited, every rule of the evidence asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ngscale.budget.design_facts import facts_of
from ngscale.budget.evidence import evidence_json
from ngscale.budget.frontier import Frontier, Placed, at_ratio, point
from ngscale.budget.limits import Limits
from ngscale.budget.trade import config_of
from ngscale.budget.warnings import SHARE_CAP
from ngscale.design import design_of
from ngscale.errors import NoResultError
from ngscale.params import active_parameters, parameter_groups, total_parameters
from ngscale.spec import order_major
from ngscale.table_sizes import sound_ratio
from ngscale.units import format_bytes, format_count

CAREFUL = 0.1
"""Of the total: the smallest share that a study at a fixed total tried; it did not lose there
(Qwen3.8-Flash-Next tech report, Table 8)."""
AMPLIFICATION_ADVICE = (
    "none in this config; train it with sqrt(D) or LayerNorm as a second arm where `ngscale probe` "
    "finds the first attention's output far above the embedding (arXiv:2601.21204, sec. 3.2.4: "
    "about 10 times, -0.02 nats)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A design of the frontier with its reason."""

    name: str
    why: str
    placed: Placed


def choose(found: Frontier, limits: Limits) -> tuple[list[Candidate], list[str]]:
    """The candidates, and a sentence for each that there is none of. All keep the model's width of
    experts and top-k, so that they differ in tables alone.
    """
    designs = found.own_width
    below_cap = [one for one in designs if one.trade.share <= SHARE_CAP]
    in_hbm = [one for one in designs if one.placement == "hbm"] or designs
    makers: Sequence[tuple[str, Placed | None, str, str]] = (
        (
            "evidence-best",
            _least(_predicted(designs), lambda one: (one.difference.nats or 0.0, one.hbm_bytes)),
            f"the lowest loss that {limits.source} predicts at this total",
            f"{limits.source} has no number for any of these designs",
        ),
        (
            "conservative",
            _least(in_hbm, lambda one: (abs(one.trade.share - CAREFUL),)),
            f"about {CAREFUL:.0%} of the total in tables, the smallest share that a study at fixed "
            "total tried (Qwen3.8-Flash-Next, Table 8), and in HBM where it fits",
            "no design with tables fits",
        ),
        (
            "memory-bound",
            _least(below_cap, lambda one: (one.hbm_bytes,)),
            f"the least HBM with at most {SHARE_CAP:.0%} of the total in tables (arXiv:2601.21204, "
            "Principle 2)",
            f"no design with at most {SHARE_CAP:.0%} of the total in tables fits",
        ),
    )
    chosen = [
        Candidate(
            name="parameter-equivalent-moe",
            why="the same total and active parameters without tables: what the others are held to",
            placed=found.baseline,
        )
    ]
    missing = []
    for name, placed, why, none in makers:
        if placed is None:
            missing.append(f"No {name} candidate: {none}.")
        else:
            chosen.append(Candidate(name=name, why=why, placed=placed))
    return chosen, missing


def _least(designs: Sequence[Placed], axes: Callable[[Placed], tuple[float, ...]]) -> Placed | None:
    return min(designs, key=axes, default=None)


def _predicted(designs: Sequence[Placed]) -> list[Placed]:
    return [one for one in designs if one.difference.nats is not None]


def document(candidate: Candidate, limits: Limits) -> dict[str, Any]:
    """The whole design as plain JSON, from its own config.json.

    Raises:
        NoResultError: no ratio near the one wanted has sound sizes.
    """
    placed = _exact(candidate.placed)
    config = config_of(placed.trade, placed.ratio)
    design = design_of(config)
    total = total_parameters(design)
    assert total == placed.trade.total_parameters, "the trade's arithmetic is not the design's"
    spec = design.ngram
    facts = facts_of(design, real_experts="most", training_tokens=limits.training_tokens)
    rules = [entry for entry in evidence_json(facts) if entry["kind"] == "rule"]
    return {
        "name": candidate.name,
        "why": candidate.why,
        **point(placed),
        "difference_to_total": total - limits.total_parameters,
        "groups": {group: count for group, count in parameter_groups(design).items() if count},
        "active": {
            name: {"min": count.minimum, "max": count.maximum}
            for name, count in active_parameters(design).items()
        },
        "table_rows": [] if spec is None else list(spec.table_rows),
        "rules": {entry["key"]: entry["verdict"] for entry in rules},
        "reasons": {entry["key"]: entry["reason"] for entry in rules},
        "amplification": None if spec is None else AMPLIFICATION_ADVICE,
        "config": config,
    }


def _exact(placed: Placed) -> Placed:
    """At the nearest sound ratio of four decimals; the loaders' own formula gives the sizes."""
    trade = placed.trade
    if not trade.num_tables:
        return placed
    base = trade.mixture.model.vocab_size
    orders = order_major(trade.max_order, trade.num_subtables)
    wanted = round(trade.table_rows / base, 4)
    ratio = sound_ratio(wanted, base, orders)
    if ratio is None:
        raise NoResultError(
            f"no ratio near {wanted} gives {trade.num_tables} tables sizes that pass the audit in "
            f"base {base}"
        )
    return at_ratio(placed, ratio)


def answer(documents: Sequence[Mapping[str, Any]], limits: Limits) -> str:
    """One sentence for the architect: what the named evidence favours, and what it frees."""
    by_name = {document["name"]: document for document in documents}
    moe = by_name["parameter-equivalent-moe"]
    at = (
        f"At {format_count(limits.total_parameters)} parameters, "
        f"{format_count(moe['active_parameters'])} active,"
    )
    best = by_name.get("evidence-best")
    if best is None:
        known = next(one for one in documents if one is not moe) if len(documents) > 1 else None
        bound = "" if known is None else f" Tables can free {_freed(moe, by_name)} of HBM."
        return f"{at} {limits.source} has no evidence on tables against experts.{bound}"
    low, high = best["loss_difference_low"], best["loss_difference_high"]
    band = "" if low is None else f" ({low:+.4f} to {high:+.4f})"
    return (
        f"{at} {limits.source} favours {best['ngram_share']:.1%} in tables: ratio {best['ratio']}, "
        f"{best['experts']} experts a layer instead of {moe['experts']}, "
        f"{best['loss_difference']:+.4f} nats{band} against the MoE of equal total. "
        f"Tables can free {_freed(moe, by_name)} of HBM."
    )


def _freed(moe: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]) -> str:
    least = min(one["hbm_bytes"] for one in by_name.values())
    return format_bytes(moe["hbm_bytes"] - least)
