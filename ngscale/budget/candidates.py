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
from ngscale.budget.frontier import Frontier, Limits, Placed, at_ratio, point
from ngscale.budget.trade import config_of
from ngscale.design import design_of
from ngscale.params import active_parameters, parameter_groups, total_parameters
from ngscale.table_sizes import design_faults, sound_ratio

CAP = 0.5
"""Of the total: Principle 2 of arXiv:2601.21204."""
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
    """The candidates, and a sentence for each that there is none of."""
    chosen = [
        Candidate(
            name="parameter-equivalent-moe",
            why="the same total and active parameters without tables: what every other is held to",
            placed=found.baseline,
        )
    ]
    missing = []
    with_tables = [one for one in found.designs if one.trade.num_tables]
    below_cap = [one for one in with_tables if one.trade.share <= CAP]
    makers: Sequence[tuple[str, Callable[[], Placed | None], str, str]] = (
        (
            "evidence-best",
            lambda: _least(with_tables, lambda one: one.difference.nats),
            f"the lowest loss that {limits.source} predicts for this total",
            f"evidence-best: {limits.source} has no number for any of these designs",
        ),
        (
            "conservative",
            lambda: _least(_unbroken(below_cap), lambda one: one.trade.share),
            "the smallest share of tables on the frontier that breaks no rule whose evidence "
            "covers it",
            "conservative: every design with tables on the frontier breaks a rule",
        ),
        (
            "memory-bound",
            lambda: _least(below_cap, lambda one: one.hbm_bytes),
            "the least HBM with at most half of the total in tables",
            "memory-bound: no design with at most half of the total in tables is on the frontier",
        ),
    )
    for name, make, why, none in makers:
        placed = make()
        if placed is None:
            missing.append(none)
        else:
            chosen.append(Candidate(name=name, why=why, placed=placed))
    return chosen, missing


def _least(
    designs: Sequence[Placed], axis: Callable[[Placed], float | None]
) -> Placed | None:
    known = [(value, i) for i, one in enumerate(designs) if (value := axis(one)) is not None]
    return designs[min(known)[1]] if known else None


def _unbroken(designs: Sequence[Placed]) -> list[Placed]:
    """Those that break no rule."""
    return [
        one
        for one in designs
        if not any(entry["verdict"] == "broken" for entry in evidence_json(one.trade.facts(None)))
    ]


def document(candidate: Candidate, limits: Limits) -> dict[str, Any]:
    """The whole design as plain JSON, from its own config.json."""
    placed = _exact(candidate.placed)
    config = config_of(placed.trade, placed.ratio, "none")
    design = design_of(config)
    total = total_parameters(design)
    assert total == placed.trade.total_parameters, "the trade's arithmetic is not the design's"
    spec = design.ngram
    facts = facts_of(design, real_experts="most", training_tokens=limits.training_tokens)
    rules = [entry for entry in evidence_json(facts) if entry["kind"] == "rule"]
    faults = (
        []
        if spec is None
        else sorted({fault.code for fault in design_faults(spec.table_rows, _base(placed), spec.table_orders)})
    )
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
        "audit": faults,
        "rules_kept": [entry["key"] for entry in rules if entry["verdict"] == "holds"],
        "rules_broken": [entry["key"] for entry in rules if entry["verdict"] == "broken"],
        "rules_outside_evidence": [
            entry["key"] for entry in rules if entry["verdict"] == "outside evidence"
        ],
        "amplification": None if spec is None else AMPLIFICATION_ADVICE,
        "config": config,
    }


def _base(placed: Placed) -> int:
    return placed.trade.mixture.model.vocab_size


def _exact(placed: Placed) -> Placed:
    """The nearest sound ratio to four decimals, which the frontier sought to three."""
    trade = placed.trade
    if not trade.num_tables:
        return placed
    from ngscale.spec import order_major

    ratio = sound_ratio(
        trade.table_rows / _base(placed),
        _base(placed),
        order_major(trade.max_order, trade.num_subtables),
    )
    return placed if ratio is None else at_ratio(placed, ratio)


def answer(documents: Sequence[Mapping[str, Any]], missing: Sequence[str]) -> str:
    """One sentence for the architect."""
    raise NotImplementedError
