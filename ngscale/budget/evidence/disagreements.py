"""Where studies do not agree, sentence by sentence; each is shown, none is averaged."""

from fractions import Fraction

from ngscale.budget.evidence import chinchilla, engram, ling, longcat, practice
from ngscale.budget.evidence.differences import SOURCES, loss_difference
from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.law import number

_CHECK_FLOPS = 5.76e23
"""The compute of Chinchilla and Gopher."""
_SIGNS = {-1: "tables win", 0: "a tie", 1: "the MoE wins"}


def disagreements(facts: Facts) -> list[str]:
    """What the sources say differently, for ``facts`` where they speak of it."""
    return [
        _shares(facts),
        *_signs(facts),
        _cap_and_width(),
        "Removing collisions gave no significant benefit and a small Engram table lost to its MoE "
        "(arXiv:2601.16531: 4.4809 against 4.4799, sd 0.0082 and 0.0123; arXiv:2605.20948 at "
        "0.92B: 45.03 against 45.62 on nine tasks; secondary accounts): the wins of the larger "
        "studies are not found at every scale.",
        _compute_optima(),
        _granularity(),
        _practice(),
    ]


def _shares(facts: Facts) -> str:
    low, high = Fraction(engram.LOW).limit_denominator(), Fraction(engram.HIGH).limit_denominator()
    of_total = [
        facts.convert(share, "sparse parameters", "total parameters") for share in (low, high)
    ]
    return (
        "Optimal shares have three denominators: Engram's 20-25% of sparse parameters is "
        f"{float(of_total[0]):.1%}-{float(of_total[1]):.1%} of this design's total, Qwen3.8's 25% "
        "is of the total budget, arXiv:2601.21204 caps tables at 50% of total; this design's "
        f"tables are {float(facts.share('total parameters')):.1%} of total and "
        f"{float(facts.share('sparse parameters')):.1%} of sparse parameters."
    )


def _signs(facts: Facts) -> list[str]:
    signs = {
        source: result.sign
        for source in SOURCES
        if (result := loss_difference(source, facts)).sign is not None
    }
    if len(set(signs.values())) < 2:
        return []
    told = "; ".join(f"{source}: {_SIGNS[sign]}" for source, sign in signs.items())
    return [f"Sources disagree on this design against the equal-total MoE: {told}."]


def _cap_and_width() -> str:
    return (
        f"arXiv:2601.21204 caps tables at 50% of total, found at 280M active; at 1.3B active it "
        f"has them win at a total/active ratio of {longcat.STILL_BETTER:.0f}, which from a base of "
        f"12 would be {longcat.share_on_curve(longcat.STILL_BETTER):.0%} of total."
    )


def _compute_optima() -> str:
    told = []
    for name, fit in (("published", chinchilla.TEX), ("refitted", chinchilla.REFIT)):
        N, D = chinchilla.optimum(fit, _CHECK_FLOPS)
        told.append(f"{name} {number(N)} parameters at {D / N:.3g} tokens each")
    return (
        f"Two fits of the Chinchilla runs differ at {number(_CHECK_FLOPS)} FLOPs, outside both "
        f"ranges: {', '.join(told)}."
    )


def _granularity() -> str:
    return (
        "Granularity: the law of arXiv:2402.07871 falls with it throughout its range of 1..16 "
        "(4 d_model / d_expert), arXiv:2507.17702 has an optimum at "
        f"{ling.best_granularity():.1f} (2 d_model / d_expert); the two count by different units."
    )


def _practice() -> str:
    told = ", ".join(f"{name} {share:.1%}" for name, share in practice.shipped_shares().items())
    return (
        f"Shipped shares of total spread as far: {told} (LongCat-2.0 and DeepSeek-V4.1 by "
        "secondary accounts); practice, not an optimum."
    )
