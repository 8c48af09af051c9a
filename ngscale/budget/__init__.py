"""``ngscale budget``: where a design's parameters are, what they cost, what else they would buy."""

from ngscale.budget.accounting import build
from ngscale.budget.summary import report

__all__ = ["build", "report"]
