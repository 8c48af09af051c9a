"""Numbers that show how they came about: sums of products of named factors."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``quantity = formula = numbers = value unit``."""

    quantity: str
    unit: str
    terms: tuple[Mapping[str, int], ...]
    """Products, each of factors by name, that are added up."""

    @property
    def value(self) -> int:
        """The sum of the products."""
        return sum(math.prod(term.values()) for term in self.terms)

    @property
    def formula(self) -> str:
        """The factors by name."""
        return _written(" x ".join(term) for term in self.terms)

    @property
    def numbers(self) -> str:
        """The same as numbers."""
        return _written(" x ".join(map(str, term.values())) for term in self.terms)

    def document(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "quantity": self.quantity,
            "formula": self.formula,
            "numbers": self.numbers,
            "value": self.value,
            "unit": self.unit,
        }


def _written(terms: Iterable[str]) -> str:
    return " + ".join(terms) or "0"


def line(quantity: str, unit: str, *terms: Mapping[str, int]) -> Line:
    """A line of these products; those with a factor of 0 are left out."""
    return Line(
        quantity=quantity,
        unit=unit,
        terms=tuple(term for term in terms if all(term.values())),
    )
