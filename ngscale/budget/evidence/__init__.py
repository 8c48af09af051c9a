"""Published laws and rules as objects, evaluated inside their range or not at all."""

from ngscale.budget.evidence.differences import loss_difference
from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.summary import evidence_json, evidence_results, evidence_section

__all__ = ["Facts", "evidence_json", "evidence_results", "evidence_section", "loss_difference"]
