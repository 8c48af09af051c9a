"""What a published law is, and its value for given quantities: only inside its range.

A law is asked with `Amount`s, numbers that carry their unit. The convention a study counts by is
part of a quantity's name (``active_parameters_with_vocabulary``), so that it cannot be mixed up.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ngscale.errors import UsageError

Standing = Literal["published", "secondary account", "computed by us"]
"""``secondary account``: published, but read in an account of the work; re-check before quoting."""

Unit = Literal[
    "parameters",
    "tokens",
    "characters",
    "FLOPs",
    "experts",
    "rows",
    "rows per base id",
    "tokens per active parameter",
    "total / active",
    "share of experts",
    "share of total parameters",
    "share of sparse parameters",
    "share of total budget",
    "2 d_model / d_expert",
    "4 d_model / d_expert",
]


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit."""

    value: float
    unit: Unit

    def __post_init__(self) -> None:
        """Refuse what no range can hold."""
        if not math.isfinite(self.value):
            raise UsageError(f"{self.value} {self.unit}: is not a finite number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Where a study measured one quantity; both ends belong to it."""

    quantity: str
    unit: Unit
    low: float | None
    """None: no account at hand states this end, so nothing is known to be inside."""
    high: float | None
    required: bool = True
    """False: where the quantity is not given the range is a condition to be told, not a bar."""
    why: str = ""
    """What leaving the range means, where its numbers alone do not say it."""

    @property
    def known(self) -> bool:
        """Whether both ends are."""
        return self.low is not None and self.high is not None

    def problem(self, value: float, source: str) -> str | None:
        """Why ``value`` is outside the known ends, as a clause; None otherwise."""
        above = self.high is not None and value > self.high
        if not above and (self.low is None or value >= self.low):
            return None
        note = f": {self.why}" if self.why else ""
        told = "not the" if self.low == self.high else "outside"
        return f"{self.quantity} {number(value)} is {told} {self.span()} of {source}{note}"

    def span(self) -> str:
        """``1..32``, or the one value."""
        low, high = (("?" if end is None else number(end)) for end in (self.low, self.high))
        return low if low == high else f"{low}..{high}"

    def condition(self) -> str:
        """The range as a clause."""
        return f"{self.quantity} {self.span()}"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "quantity": self.quantity,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "required": self.required,
        }


NO_TABLES = Range(
    quantity="ngram_parameters",
    unit="parameters",
    low=0,
    high=0,
    why="no published law has a term for parameters in tables",
)
"""Range of every law fitted without n-gram tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """One published formula with all that is needed to judge it."""

    key: str
    source: str
    """Paper with section, table or equation."""
    standing: Standing
    formula: str
    coefficients: Mapping[str, float]
    units: str
    """What the formula gives."""
    denominator: str
    """What its value is measured against."""
    scope: str
    """The models and data behind it."""
    validity: tuple[Range, ...]
    compute: Callable[..., float]
    """Takes the quantities of ``validity`` by name, those of ``conditions`` left out."""
    conditions: tuple[str, ...] = ("ngram_parameters",)
    """Quantities that bound the law without entering the formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A law's value, or why there is none; ``reason`` is one sentence either way."""

    value: float | None
    reason: str

    @property
    def applies(self) -> bool:
        """False: outside evidence."""
        return self.value is not None


def evaluate(law: Law, amounts: Mapping[str, Amount]) -> Outcome:
    """The law at ``amounts``; those it does not know are ignored.

    Raises:
        UsageError: an amount has another unit than the law's.
    """
    problem = outside(law.validity, amounts, source=law.source, key=law.key)
    if problem is not None:
        return Outcome(value=None, reason=f"outside evidence: {problem}")
    given = {
        item.quantity: amounts[item.quantity].value
        for item in law.validity
        if item.quantity not in law.conditions
    }
    return Outcome(value=law.compute(**given), reason=f"inside the range of {law.source}")


def outside(
    validity: tuple[Range, ...], amounts: Mapping[str, Amount], *, source: str, key: str
) -> str | None:
    """The first reason why ``amounts`` are not inside ``validity``, as a clause; None inside.

    Raises:
        UsageError: an amount has another unit than its range.
    """
    for item in validity:
        amount = amounts.get(item.quantity)
        if amount is not None and amount.unit != item.unit:
            raise UsageError(
                f"{key}: {item.quantity} {number(amount.value)} is in {amount.unit}; "
                f"{source} takes {item.unit}"
            )
    # What is known to be outside says more than what nobody gave or stated.
    for item in validity:
        amount = amounts.get(item.quantity)
        problem = None if amount is None else item.problem(amount.value, source)
        if problem is not None:
            return problem
    for item in validity:
        if item.required and item.quantity not in amounts:
            return f"{item.quantity} is not given, and {source} needs it"
    for item in validity:
        if not item.known:
            return f"the range of {item.quantity} in {source} is not known to us"
    return None


def number(value: float) -> str:
    """Short and exact enough to be recognised: 256, 0.458, 31.41B, 6e+20."""
    if abs(value) >= 1e16:
        return f"{value:.3g}"
    for suffix, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
