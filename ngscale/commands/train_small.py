"""``ngscale train-small``."""


def train_small() -> None:
    """Placeholder until the next commit."""
