"""How sure an answer is: a scale of four, and the one rule that puts a candidate on it.

No grade says anything of full scale: nothing of that size is ever trained here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ngscale.conclusive import smoke_test_reasons
from ngscale.train_small.comparison import Verdict

Level = Literal["arithmetic only", "smoke test", "proxy, undecided", "proxy, decided"]
LEVELS: tuple[Level, ...] = (
    "arithmetic only",
    "smoke test",
    "proxy, undecided",
    "proxy, decided",
)
"""From the least to the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a grade asks of the training of one candidate."""

    num_seeds: int
    tokens_per_active_parameter: float
    verdicts: Sequence[Verdict]
    """Against the MoE of equal total and every placebo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """Where on the scale, and why not higher."""

    level: Level
    num_seeds: int
    why: str

    @property
    def rank(self) -> int:
        """0 is the least."""
        return LEVELS.index(self.level)

    def __str__(self) -> str:
        """As reports write it: ``proxy, decided at 3 seeds``."""
        if self.level == "proxy, decided":
            return f"{self.level} at {self.num_seeds} seeds"
        return self.level


def grade(trained: Trained | None) -> Grade:
    """``arithmetic only`` where nothing was trained; ``smoke test`` below 3 seeds or 20 tokens per
    active parameter, whatever the verdicts; ``proxy, undecided`` where one of them is.
    """
    if trained is None:
        return Grade(level="arithmetic only", num_seeds=0, why="nothing was trained")
    seeds, tokens = trained.num_seeds, trained.tokens_per_active_parameter
    assert trained.verdicts
    few = smoke_test_reasons(num_seeds=seeds, tokens_per_active_parameter=tokens)
    if few:
        return Grade(level="smoke test", num_seeds=seeds, why=" and ".join(few))
    at = f"{seeds} seeds x {tokens:.3g} tokens per active parameter"
    undecided = sum(verdict == "undecided" for verdict in trained.verdicts)
    if undecided:
        why = f"{undecided} of {len(trained.verdicts)} comparisons undecided at {at}"
        return Grade(level="proxy, undecided", num_seeds=seeds, why=why)
    return Grade(level="proxy, decided", num_seeds=seeds, why=at)
