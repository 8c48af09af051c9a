"""Qwen3.8-Flash-Next (tech report, sec. 2.3): the fixed-budget trade, and what it did not give."""

from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.fixed_total import Point, TradeCurve
from ngscale.budget.evidence.law import Law, Range
from ngscale.budget.evidence.rule import Measure, Rule

DOWNSTREAM_WARNING = (
    "At a fixed total budget Qwen3.8-Flash-Next found the lowest loss with 25% of it in tables and "
    '"no clear improvement over the MoE-only baseline" downstream (tech report, Table 8): a lower '
    "loss here does not promise better benchmarks."
)
EXTRA_PARAMETERS = {0: 1.585, 20: 1.553, 50: 1.541, 100: 1.534, 200: 1.526}
"""Table 9: loss by vocabulary scale (rows per id of a 250K base), parameters on top."""
SLOPE = -0.02675
"""Of our least-squares line through 20x-200x of Table 9, in log10(scale)."""

_DIGIT = 0.0005
_DENSITY = Range(
    quantity="tokens_per_active_parameter",
    unit="tokens per active parameter",
    low=250,
    high=350,
    required=False,
    why="all its studies were made at 300",
)

CURVE = TradeCurve(
    key="qwen.allocation",
    source="Qwen3.8-Flash-Next tech report (Table 8)",
    standing="published",
    denominator="total budget",
    scope="size and total/active ratio of this study are not in the account at hand; its scales "
    "5x, 10x, 30x are not in the proportion of the shares 10%, 25%, 50%",
    validity=(_DENSITY,),
    points=tuple(
        Point(share=share, loss=loss, error=_DIGIT)
        for share, loss in ((0.0, 1.202), (0.10, 1.200), (0.25, 1.197), (0.50, 1.201))
    ),
)


def _share(facts: Facts) -> Measure:
    share = float(facts.share("total budget"))
    return Measure(
        value=share,
        keeps=None if share > 0.5 else 0.10 < share < 0.50,
        sentence=f"tables hold {share:.2%} of the total budget; of the four shares tried (0, 10, "
        "25, 50%) 25% had the lowest loss, so the optimum lies between 10% and 50%",
    )


RULES = (
    Rule(
        key="qwen.share",
        source="Qwen3.8-Flash-Next tech report (Table 8)",
        standing="published",
        statement="25% of the total budget has the lowest loss, without a clear downstream gain",
        numbers={"optimum": 0.25, "below": 0.10, "above": 0.50},
        units="share",
        denominator="total budget of the fixed-budget study",
        scope="300 tokens per active parameter; loss only, no downstream gain",
        validity=(_DENSITY,),
        measure=_share,
    ),
)

LAWS = (
    Law(
        key="qwen.slope",
        source="Qwen3.8-Flash-Next tech report (Table 9)",
        standing="computed by us",
        formula="dL / dlog10(rows) = s",
        coefficients={"s": SLOPE},
        units="nats/token per decade of rows",
        denominator="the same model with a tenth of the rows: the parameters are extra",
        scope="fit over 20x to 200x of a 250K base; one layer, orders 2 and 3",
        validity=(
            Range(quantity="rows_per_base_id", unit="rows per base id", low=20, high=200),
            _DENSITY,
        ),
        compute=lambda: SLOPE,
        conditions=("rows_per_base_id", "tokens_per_active_parameter"),
    ),
)
