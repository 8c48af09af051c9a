"""The frontier and the candidates of a total, as the ``proposal`` of a budget's record."""

from dataclasses import asdict
from typing import Any

from ngscale.budget.limits import Limits
from ngscale.design import Design


def propose(design: Design, limits: Limits) -> dict[str, Any]:
    """``frontier[]``, ``candidates[]`` and what is told of them.

    Raises:
        NoResultError: nothing meets the limits.
        SpecError: the model has no experts that could vary, or tables of another hash.
    """
    from ngscale.budget import candidates
    from ngscale.budget.frontier import frontier, point

    found = frontier(design, limits)
    chosen, missing = candidates.choose(found, limits)
    documents = [candidates.document(candidate, limits) for candidate in chosen]
    return {
        "frontier": [point(one) for one in found.designs],
        "candidates": documents,
        "proposal": {
            **asdict(limits),
            "num_designs": found.num_designs,
            "num_on_frontier": found.num_on_frontier,
            "has_loss": found.has_loss,
            "missing": missing,
            "answer": candidates.answer(documents, limits),
        },
    }
