"""E3, amplification: none, a scalar, sqrt(D), LayerNorm (arXiv:2601.21204, sec. 3.2.4)."""

from ngscale.records import Figure
from ngscale.spec import Amplification
from reports.experiments.outcome import Experiment, Found
from reports.experiments.report import curve_figure
from reports.experiments.scale import Arm, clean_rows, design_of, tables

SCALAR = 4.0
"""Between none and sqrt(96) = 9.8."""
KINDS: tuple[Amplification, ...] = ("none", "scalar", "sqrt_d", "layernorm")
ROWS = clean_rows(4, 4)


def arms() -> list[Arm]:
    """N = K = 4, as LongCat-Flash-Lite, at clean sizes."""
    return [
        Arm(
            name=kind,
            design=design_of(
                tables(
                    4,
                    4,
                    ROWS,
                    amplification=kind,
                    amplification_factor=SCALAR if kind == "scalar" else 1.0,
                )
            ),
            facts={"amplification": f"x {SCALAR:g}" if kind == "scalar" else kind},
        )
        for kind in KINDS
    ]


def _answer(found: Found) -> str:
    parts = [
        f"{item['arm']} {item['mean_difference']:+.4f} ({item['verdict']})"
        for item in found.comparisons
    ]
    none = next(arm for arm in found.arms if arm["arm"] == "none")
    ratio = none["norms"][-1]["first_attention_ratio"]
    return (
        f"Held-out loss less that without amplification, nats/token: {', '.join(parts)}; "
        f"without it the first attention ends at {ratio:.2f} times the stream it is added to."
    )


def _figures(found: Found) -> tuple[Figure, ...]:
    return (
        curve_figure(
            found,
            "norms",
            "The first attention's write over its stream, and the embedding's share after layer 0",
            ("first_attention_ratio", "write / stream, first attention"),
            ("share_after_first_layer", "share of the embedding"),
        ),
    )


EXPERIMENT = Experiment(
    slug="2026-11-22-e3-amplification",
    title="E3: embedding amplification",
    published=(
        "arXiv:2601.21204, sec. 3.2.4 and Fig. 5: sqrt(D) or LayerNorm on the embedding lowered "
        "training and both validation losses by 0.02; without it, after 300B tokens, the first "
        "attention's output was about 10 times its identity branch. How rows and words were "
        "initialised is not published: here every element of a fused embedding starts at a norm of "
        "about 1 for the whole vector."
    ),
    arms=arms,
    pairs=lambda arms: [(arm.name, "none") for arm in arms[1:]],
    columns={"amplification": "amplification"},
    answer=_answer,
    figures=_figures,
)
