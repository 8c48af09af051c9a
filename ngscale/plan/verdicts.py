"""What training says of one candidate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ngscale.plan.choices import Choice
from ngscale.plan.grades import Grade, Trained, grade
from ngscale.records import RunRecord

_MOE_ARM = "equivalent-moe"
_PLACEBO_ARMS = ("unigram-tables", "capacity-1")
_ASKED = (_MOE_ARM, *_PLACEBO_ARMS)
"""The base MoE has fewer parameters: beating it is no reason for tables."""

Stand = Literal["wins", "fails", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """On one candidate with tables."""

    candidate: str
    stand: Stand
    """``wins``: better than the MoE of equal total and than every placebo, at the highest grade;
    ``fails``: decided, and not so; ``open``: all else."""
    grade: Grade
    difference: float | None
    """To the MoE of equal total, nats/token; negative is better. None where nothing was trained."""
    sentence: str
    comparisons: tuple[Mapping[str, Any], ...] = ()
    tokens: int | None = None
    """Per run."""
    lost: tuple[str, ...] = ()
    """What the proxy could not keep."""
    is_proxy: bool = True


def verdict(choice: Choice, record: RunRecord | None, why_not: str = "") -> Verdict:
    """Of ``choice`` by its record of train-small; ``why_not`` says why there is none."""
    if record is None:
        return Verdict(
            candidate=choice.name,
            stand="open",
            grade=grade(None),
            difference=None,
            sentence=f"Not trained: {why_not}." if why_not else "Not trained.",
        )
    results = record.results
    by_arm = {one["baseline"]: one for one in results["comparisons"]}
    asked = [by_arm[name] for name in _ASKED]
    design = next(arm for arm in results["arms"] if arm["name"] == "design")
    num_tokens = record.inputs["tokens"]
    sure = grade(
        Trained(
            num_seeds=len(record.inputs["seeds"]),
            tokens_per_active_parameter=num_tokens / design["active_parameters"],
            verdicts=[one["verdict"] for one in asked],
        )
    )
    stand: Stand = "open"
    if sure.level == "proxy, decided":
        stand = "wins" if all(one["verdict"] == "better" for one in asked) else "fails"
    shrunk = results["shrunk"]
    return Verdict(
        candidate=choice.name,
        stand=stand,
        grade=sure,
        difference=by_arm[_MOE_ARM]["mean_difference"],
        sentence=_sentence(asked, sure, is_proxy=shrunk is not None),
        comparisons=tuple(results["comparisons"]),
        tokens=num_tokens,
        lost=() if shrunk is None else tuple(shrunk["lost"]),
        is_proxy=shrunk is not None,
    )


def _sentence(asked: Sequence[Mapping[str, Any]], sure: Grade, *, is_proxy: bool) -> str:
    """A smoke test is called one before any number."""
    what = "its proxy" if is_proxy else "the design itself"
    told = "; ".join(
        f"{one['mean_difference']:+.4f} nats{_interval(one)} against {one['baseline']}"
        + ("" if sure.level == "smoke test" else f", {one['verdict']}")
        for one in asked
    )
    if sure.level == "smoke test":
        return f"Smoke test, concludes nothing ({sure.why}): {what} ends {told}."
    return f"{str(sure).capitalize()} ({sure.why}): {what} ends {told}."


def _interval(one: Mapping[str, Any]) -> str:
    if one["low"] is None:
        return ""
    return f" (95% {one['low']:+.4f} to {one['high']:+.4f})"
