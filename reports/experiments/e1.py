"""E1, Pareto: experts against tables at two base ratios of total to active (the paper's Fig. 2)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.params import most_active, parameter_equivalent_moe, total_parameters
from ngscale.records import Figure, Panel, Series
from reports.experiments.outcome import Experiment, Found
from reports.experiments.scale import BACKBONE, Arm, clean_rows, design_of, tables

NARROW = replace(BACKBONE, hidden_size=64, num_attention_heads=2)
"""0.34M active parameters."""
RATIOS = (4, 12)
SHARES = (0.25, 0.5)
MAX_ORDER, NUM_SUBTABLES = 3, 2
TOKENS = 4_102 * 1_024
"""12 tokens per active parameter."""


def arms() -> list[Arm]:
    """Per ratio the base, and per share its tables beside the MoE of as many parameters."""
    found = []
    for ratio in RATIOS:
        base = _base(ratio)
        found.append(_arm(ratio, 0.0, "MoE", Design(model=decoder_model(base))))
        for share in SHARES:
            design = _with_tables(base, share)
            found.append(_arm(ratio, share, "tables", design))
            found.append(_arm(ratio, share, "MoE", parameter_equivalent_moe(design)))
    return found


def _base(ratio: int) -> DecoderConfig:
    """Experts until the total is ``ratio`` times what is active."""

    def gap(count: int) -> float:
        design = Design(model=decoder_model(replace(NARROW, num_experts=count)))
        return abs(total_parameters(design) / most_active(design) - ratio)

    return replace(NARROW, num_experts=min(range(4, 400), key=gap))


def _with_tables(base: DecoderConfig, share: float) -> Design:
    total = total_parameters(Design(model=decoder_model(base))) / (1 - share)
    rows = round(share * total / base.hidden_size)
    return design_of(
        tables(MAX_ORDER, NUM_SUBTABLES, clean_rows(MAX_ORDER, NUM_SUBTABLES, rows)),
        backbone=base,
    )


def _arm(ratio: int, share: float, kind: str, design: Design) -> Arm:
    return Arm(
        name=_name(ratio, share, kind),
        design=design,
        tokens=TOKENS,
        facts={"base_ratio": ratio, "share": share, "kind": kind},
        family=f"{ratio}x",
    )


def _name(ratio: int, share: float, kind: str) -> str:
    return f"{ratio}x {share:.0%} {kind}"


def _pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Tables against the MoE of as many parameters, and each against the base they grew from."""
    found = []
    for ratio in _ratios(arm.facts["base_ratio"] for arm in arms):
        base = _name(ratio, 0.0, "MoE")
        for share in SHARES:
            tables_arm, moe = (_name(ratio, share, kind) for kind in ("tables", "MoE"))
            found += [(tables_arm, moe), (tables_arm, base), (moe, base)]
    return found


def _ratios(of_arms: Iterable[int]) -> list[int]:
    """Those that are trained."""
    return sorted(set(of_arms))


def _answer(found: Found) -> str:
    parts = []
    for ratio in _ratios(arm["base_ratio"] for arm in found.arms):
        for share in SHARES:
            arm, moe = (_name(ratio, share, kind) for kind in ("tables", "MoE"))
            item = found.difference(arm, moe)
            parts.append(
                f"{item['mean_difference']:+.4f} ({item['verdict']}) at {ratio}x, {share:.0%}"
            )
    return (
        "Tables less the MoE of as many parameters, nats/token, by the base's total/active and the "
        f"tables' share: {'; '.join(parts)}."
    )


def _figures(found: Found) -> tuple[Figure, ...]:
    series = []
    for ratio in _ratios(arm["base_ratio"] for arm in found.arms):
        for kind in ("MoE", "tables"):
            rows = [
                arm
                for arm in found.arms
                if arm["base_ratio"] == ratio and (arm["kind"] == kind or arm["share"] == 0)
            ]
            series.append(
                Series(
                    label=f"{kind}, from {ratio}x",
                    x=[arm["total_parameters"] / arm["active_parameters"] for arm in rows],
                    y=[arm["mean_loss"] for arm in rows],
                    style="line" if kind == "tables" else "dashed",
                )
            )
    panel = Panel(
        title="means over seeds",
        x_label="total / active",
        y_label="held-out loss, nats/token",
        series=tuple(series),
    )
    return (
        Figure(
            name="pareto",
            caption="Loss against total over active, as the paper's Fig. 2",
            panels=(panel,),
        ),
    )


EXPERIMENT = Experiment(
    slug="2026-11-22-e1-pareto",
    title="E1: experts or tables",
    published=(
        "arXiv:2601.21204, Fig. 2 (280M active parameters, 300B tokens): the MoE's loss falls "
        "linearly in the logarithm of total/active. Tables added at a low ratio never beat "
        "experts, at a high one they do: the curves cross slightly above 20, with about half of "
        "the parameters in tables, and beyond half tables lose again."
    ),
    arms=arms,
    pairs=_pairs,
    columns={"base_ratio": "base ratio", "share": "share", "kind": "kind"},
    answer=_answer,
    figures=_figures,
)
