"""What a published rule of thumb is, and whether it holds for a design."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ngscale.budget.evidence.facts import Facts, amounts
from ngscale.budget.evidence.law import Range, Standing, outside

Verdict = Literal["holds", "broken", "outside evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a rule looks at in a design."""

    value: float | None
    """By the rule's own denominator; None where the design does not say."""
    keeps: bool | None
    """Whether the rule's number is kept; None where the study has no answer for the value."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule with its denominator and the models it was found on."""

    key: str
    source: str
    standing: Standing
    statement: str
    numbers: Mapping[str, float]
    units: str
    denominator: str
    scope: str
    validity: tuple[Range, ...]
    measure: Callable[[Facts], Measure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule's verdict on one design."""

    verdict: Verdict
    value: float | None
    sentence: str


def judge(rule: Rule, facts: Facts) -> Finding:
    """Holds or broken only where the rule was found, outside evidence everywhere else."""
    if facts.ngram_parameters == 0:
        sentence = "outside evidence: the design has no tables to judge"
        return Finding(verdict="outside evidence", value=None, sentence=sentence)
    measure = rule.measure(facts)
    problem = outside(rule.validity, amounts(facts), source=rule.source, key=rule.key)
    if problem is not None:
        sentence = f"outside evidence: {problem}; {measure.sentence}"
        return Finding(verdict="outside evidence", value=measure.value, sentence=sentence)
    if measure.keeps is None:
        sentence = f"outside evidence: {measure.sentence}"
        return Finding(verdict="outside evidence", value=measure.value, sentence=sentence)
    verdict: Verdict = "holds" if measure.keeps else "broken"
    return Finding(verdict=verdict, value=measure.value, sentence=measure.sentence)
