"""``ngscale collisions``."""


def collisions() -> None:
    """Placeholder until the next commit."""
