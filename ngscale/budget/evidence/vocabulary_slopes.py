"""Over-Encoding (arXiv:2501.16975): loss by rows of the table, and the cost of a multiple."""

import math

from ngscale.budget.evidence.law import Law, Range

INTERCEPT = 2.6754
SLOPE = -0.0256
ROWS = (20e3, 12.8e6)
"""Fewest and most rows the law was fitted to."""
TRAIN_LOSS = {"baseline": 2.714, "64V": 2.702, "3.2M": 2.678}
"""Table 4: OLMoE-1.3B, 50B tokens, V = 50,280; 64V is 3,217,920 rows."""


def loss(table_rows: float) -> float:
    """``L = 2.6754 - 0.0256 log10(m)``: nats/token of OLMoE-1.3B at 500B tokens."""
    return INTERCEPT + SLOPE * math.log10(table_rows)


def cost_of_multiple(losses: dict[str, float]) -> tuple[float, float]:
    """Nats/token that m = 64V costs against m = 3.2M, and the part of the gain it loses."""
    cost = losses["64V"] - losses["3.2M"]
    return cost, cost / (losses["baseline"] - losses["3.2M"])


LAWS = (
    Law(
        key="over-encoding.slope",
        source="arXiv:2501.16975 (law in m)",
        standing="published",
        formula="dL / dlog10(m) = s",
        coefficients={"s": SLOPE},
        units="nats/token per decade of rows",
        denominator="the same model with a tenth of the rows: the parameters are extra",
        scope="OLMoE-1.3B, 500B tokens",
        validity=(Range(quantity="table_rows", unit="rows", low=ROWS[0], high=ROWS[1]),),
        compute=lambda: SLOPE,
        conditions=("table_rows",),
    ),
    Law(
        key="over-encoding.multiple",
        source="arXiv:2501.16975 (Table 4)",
        standing="published",
        formula="L(m = 64 V) - L(m = 63.64 V)",
        coefficients=TRAIN_LOSS,
        units="nats/token of training loss",
        denominator="the gain of 0.036 over the model without tables",
        scope="OLMoE-1.3B, 50B tokens, V = 50,280; 0.023 on held-out text",
        validity=(
            Range(
                quantity="rows_per_base_id",
                unit="rows per base id",
                low=64,
                high=64,
                why="the one multiple whose cost is published",
            ),
        ),
        compute=lambda: cost_of_multiple(TRAIN_LOSS)[0],
        conditions=("rows_per_base_id",),
    ),
)
