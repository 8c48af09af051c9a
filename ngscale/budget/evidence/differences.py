"""The predicted loss difference to the equal-total MoE, by one named source at a time."""

from collections.abc import Callable
from functools import partial

from ngscale.budget.evidence import longcat
from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.fixed_total import Difference, difference
from ngscale.budget.evidence.registry import CURVES, LAWS
from ngscale.errors import UsageError


def _extra_rows(source: str, facts: Facts) -> Difference:
    """A slope in rows says what tables on top give, which no equal-total MoE was held against."""
    del facts
    return Difference(
        source=source,
        nats=None,
        reason="outside evidence: the slope is for extra rows at extra parameters; the source "
        "compares with no MoE of equal total",
    )


SOURCES: dict[str, Callable[[Facts], Difference]] = {
    "longcat": longcat.sign,
    **{curve.key.partition(".")[0]: partial(difference, curve) for curve in CURVES},
    **{
        law.key: partial(_extra_rows, law.source)
        for law in LAWS
        if law.units == "nats/token per decade of rows"
    },
}


def loss_difference(source: str, facts: Facts) -> Difference:
    """What one source predicts for ``facts`` against the MoE of the same total.

    Raises:
        UsageError: no source of this name.
    """
    if source not in SOURCES:
        raise UsageError(f"{source}: is no source of loss differences; known: {', '.join(SOURCES)}")
    return SOURCES[source](facts)
