"""Below what a comparison of trained models is a smoke test."""

MIN_SEEDS = 3
MIN_TOKENS_PER_ACTIVE_PARAMETER = 20
"""About the compute-optimal ratio (Chinchilla, arXiv:2203.15556); below it the loss still falls
steeply, and orderings of arms can turn."""


def smoke_test_reasons(*, num_seeds: int, tokens_per_active_parameter: float) -> list[str]:
    """What it lacks, in clauses; empty where it may be concluded from."""
    reasons = []
    if num_seeds < MIN_SEEDS:
        reasons.append(f"fewer than {MIN_SEEDS} seeds ({num_seeds})")
    if tokens_per_active_parameter < MIN_TOKENS_PER_ACTIVE_PARAMETER:
        reasons.append(
            f"{tokens_per_active_parameter:.2g} training tokens per active parameter, fewer than "
            f"{MIN_TOKENS_PER_ACTIVE_PARAMETER}"
        )
    return reasons
