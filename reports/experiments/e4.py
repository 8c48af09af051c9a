"""E4, orders and sub-tables: N and K of the paper's Fig. 4, and LongCat-Flash-Lite's 4 and 4."""

from reports.experiments.outcome import Experiment, Found
from reports.experiments.report import difference_figure
from reports.experiments.scale import Arm, clean_tables, design_of

SHAPES = ((2, 1), (2, 4), (3, 3), (4, 4), (5, 3), (7, 2), (7, 4))


def arms() -> list[Arm]:
    """Equal table parameters, on no resonance; three arms are those of E2."""
    return [
        Arm(
            name=f"N{n}-K{k}",
            design=design_of(clean_tables(n, k)),
            facts={"N": n, "K": k, "tables": (n - 1) * k},
        )
        for n, k in SHAPES
    ]


def _answer(found: Found) -> str:
    rows = sorted(found.arms, key=lambda arm: arm["mean_loss"])
    order = ", ".join(f"{arm['arm']} {arm['mean_loss']:.4f}" for arm in rows)
    worse = [c["arm"] for c in found.comparisons if c["verdict"] == "better"]
    return (
        f"From the lowest held-out loss: {order}; better than N2-K1: {', '.join(worse) or 'none'}."
    )


EXPERIMENT = Experiment(
    slug="2026-11-22-e4-orders-and-splits",
    title="E4: orders N and sub-tables K",
    published=(
        "arXiv:2601.21204, Fig. 4 (790M active): N2-K1 is notably worst, N >= 3 with K >= 2 are "
        "all close, N in 3..5 near the best; the whole spread is at most about 0.0175."
    ),
    arms=arms,
    pairs=lambda arms: [(arm.name, "N2-K1") for arm in arms[1:]],
    columns={"N": "N", "K": "K", "tables": "tables"},
    answer=_answer,
    figures=lambda found: (difference_figure(found, "differences", "Against N2-K1"),),
)
