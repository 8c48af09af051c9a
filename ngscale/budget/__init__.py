"""``ngscale budget``: where a design's parameters are, what they cost, what else they would buy."""

from ngscale.budget.accounting import build
from ngscale.budget.costs import Workload
from ngscale.budget.parallel import Ranks
from ngscale.budget.summary import report

__all__ = ["Ranks", "Workload", "build", "report"]
