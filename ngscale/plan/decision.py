"""Verdicts and evidence -> which design, how sure, and what would change it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ngscale.conclusive import MIN_TOKENS_PER_ACTIVE_PARAMETER
from ngscale.plan.choices import MOE, OWN, Choice, Choices
from ngscale.plan.grades import Grade, grade
from ngscale.plan.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to build, as far as is known."""

    candidate: str
    why: str
    """A clause."""
    grade: Grade


def decide(choices: Choices, verdicts: Sequence[Verdict]) -> Decision:
    """A design that wins; the MoE where every one fails; else, openly undecided, the target's own
    share, or what published evidence favours, or the MoE where there is none.

    Of several that win, the one furthest below its MoE is taken.
    """
    by_name = {one.candidate: one for one in verdicts}
    winners = [one for one in verdicts if one.stand == "wins"]
    if winners:
        best = min(winners, key=lambda one: one.difference or 0.0)
        why = (
            f"trained here it ends {best.difference:+.4f} nats against its MoE, and beats placebos"
        )
        return Decision(candidate=best.candidate, why=why, grade=best.grade)
    if verdicts and all(one.stand == "fails" for one in verdicts):
        least = min((one.grade for one in verdicts), key=lambda sure: sure.rank)
        why = "no candidate's proxy beats both the MoE of equal total and the placebos"
        return Decision(candidate=MOE, why=why, grade=least)
    open_ones = [one for one in choices.with_tables if by_name[one.name].stand == "open"]
    chosen, why = _by_evidence(choices, open_ones)
    if chosen.name in by_name:
        return Decision(candidate=chosen.name, why=why, grade=by_name[chosen.name].grade)
    return Decision(candidate=chosen.name, why=why, grade=grade(None))


def _by_evidence(choices: Choices, open_ones: Sequence[Choice]) -> tuple[Choice, str]:
    own = next((one for one in open_ones if one.name == OWN), None)
    known = [one for one in open_ones if (one.loss_difference or 0.0) < 0]
    best = min(known, key=lambda one: (one.loss_difference or 0.0, one.hbm_bytes), default=None)
    if own is not None:
        why = "nothing trained here decides against the share that was planned"
        if best is not None and best is not own:
            why += f"; published evidence favours {_told(best)}"
            why += f", and gives it {_nats(own)}" if own.loss_difference is not None else ""
        return own, why
    if best is not None:
        return best, f"published evidence gives it {_nats(best)}"
    (moe,) = (one for one in choices.designs if one.name == MOE)
    if moe.fits or not open_ones:
        return moe, "no evidence, published or trained here, speaks for tables"
    least = min(open_ones, key=lambda one: one.hbm_bytes)
    return least, "the MoE of this total does not fit, and no evidence speaks against tables"


def _told(one: Choice) -> str:
    return f"{one.ngram_share:.1%} ({one.name}, {_nats(one)})"


def _nats(one: Choice) -> str:
    return f"{one.loss_difference:+.4f} nats against the MoE"


def changes(
    decision: Decision, choices: Choices, verdicts: Sequence[Verdict], hours_wanted: float | None
) -> list[str]:
    """What would change the decision, the nearest first; each a clause."""
    found = []
    by_name = {one.candidate: one for one in verdicts}
    long = f"{MIN_TOKENS_PER_ACTIVE_PARAMETER} tokens per active parameter"
    at = "" if hours_wanted is None else f" (all candidates: about --hours {hours_wanted:g} here)"
    chosen = by_name.get(decision.candidate)
    if chosen is not None and chosen.stand == "open":
        found.append(
            f"{decision.candidate}'s proxy not beating its equal-total MoE and the placebos in a "
            f"run of 3 seeds and {long}{at}"
        )
    elif chosen is not None:
        found.append("other text, or a larger proxy, on which it does not win")
    elif any(one.stand == "open" for one in verdicts):
        found.append(f"a candidate's proxy beating its MoE and the placebos at {long}{at}")
    else:
        found.append("other text, or a larger proxy, on which a candidate wins")
    rivals = [
        one.name
        for one in choices.with_tables
        if one.name != decision.candidate and by_name[one.name].stand == "open"
    ]
    if rivals:
        found.append(f"the same for {', '.join(rivals)}, with a larger gain")
    found.append("any run at full scale, which outweighs all of this")
    return found
