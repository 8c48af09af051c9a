"""Engram (arXiv:2601.07372): shares are of the *sparse* parameters, at total/active about 10."""

from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.fixed_total import Point, TradeCurve
from ngscale.budget.evidence.law import Range
from ngscale.budget.evidence.rule import Measure, Rule

LOW, HIGH = 0.20, 0.25
"""1 - rho at the optimum: rho 75-80%."""

_RATIO = Range(
    quantity="total_active_ratio",
    unit="total / active",
    low=9.5,
    high=10.5,
    why="both studies were made at about 10",
)
_VALIDATION_DIGIT = 0.00005

CURVE = TradeCurve(
    key="engram.allocation",
    source="arXiv:2601.07372 (sec. 3)",
    standing="published",
    denominator="sparse parameters",
    scope="9.9B total, 993M active, validation loss; the tie at 60% is told in words",
    validity=(
        _RATIO,
        Range(
            quantity="training_flops",
            unit="FLOPs",
            low=5.5e20,
            high=6.5e20,
            required=False,
        ),
    ),
    points=(
        Point(share=0.0, loss=1.7248, error=_VALIDATION_DIGIT),
        Point(share=0.20, loss=1.7109, error=_VALIDATION_DIGIT),
        Point(share=0.60, loss=1.7248, error=None),
    ),
)


def _share(facts: Facts) -> Measure:
    share = float(facts.share("sparse parameters"))
    return Measure(
        value=share,
        keeps=LOW <= share <= HIGH,
        sentence=f"tables hold {share:.2%} of the sparse parameters; the optimum was "
        f"{LOW:.0%}-{HIGH:.0%} of them (rho 75-80%), and 60% still tied with the MoE",
    )


RULES = (
    Rule(
        key="engram.share",
        source="arXiv:2601.07372 (sec. 3)",
        standing="published",
        statement="give the tables 20-25% of the sparse parameters (rho 75-80%)",
        numbers={"low": LOW, "high": HIGH, "tie": 0.60},
        units="share",
        denominator="sparse parameters: total less active, without vocabulary embedding and "
        "LM head",
        scope="total/active about 10, C = 2e20 and 6e20 FLOPs, validation loss",
        validity=(
            _RATIO,
            Range(
                quantity="training_flops",
                unit="FLOPs",
                low=2e20,
                high=6e20,
                required=False,
            ),
        ),
        measure=_share,
    ),
)
