"""E3, amplification: none, a scalar, sqrt(D), LayerNorm (arXiv:2601.21204, sec. 3.2.4)."""

from ngscale.spec import Amplification
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
