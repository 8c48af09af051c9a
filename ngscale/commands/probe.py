"""``ngscale probe``."""


def probe() -> None:
    """Placeholder until the next commit."""
