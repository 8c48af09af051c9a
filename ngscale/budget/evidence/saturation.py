"""The saturating transform of expert counts that three studies share."""


def saturated(excess: float, start: float, maximum: float) -> float:
    """``1/x = 1/(excess + (1/start - 1/maximum)^-1) + 1/maximum``: start at 0, maximum at infinity.

    arXiv:2202.01169 Eq. 1; ``excess`` is E - 1 there and in arXiv:2502.05172, and the activation
    ratio A in arXiv:2507.17702.
    """
    return 1 / (1 / (excess + 1 / (1 / start - 1 / maximum)) + 1 / maximum)
