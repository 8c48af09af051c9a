"""``ngscale budget``."""


def budget() -> None:
    """Placeholder until the next commit."""
