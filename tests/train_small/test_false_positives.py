"""A/A: a design against itself is better or worse in 5% of comparisons, and not more.

The losses are those of 24 real runs of one design by ``run_cells``, seeds apart: arms of one seed
would be equal to the last bit. A comparison draws 2n runs without replacement and pairs them, so
that none stands on both sides. Two differences of a draw are then uncorrelated (their four
covariances, all -1/(N-1) of the variance, cancel) and as likely to be negative as positive, which
is all that a t-test asks for beside the shape. Had the 24 losses been drawn anew each time, from a
normal distribution, the rate would be 5% exactly; given 24, it varies with what they are. In a
simulation of 300 sets of normal losses its sd was 0.6% with 24 runs and 6 pairs (0.8% with 12 runs;
0.8% with 24 runs and 3 pairs), 2,000 comparisons' own 0.5% included.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ngscale.train_small.cells import CellStore
from ngscale.train_small.comparison import Pair, compare_all
from ngscale.train_small.run import plan_job, run_cells
from tests.train_small.small import compare, request

NUM_RUNS = 24
NUM_COMPARISONS = 2_000
NEVER_EQUIVALENT = 1e-12
"""A margin that hides no difference."""


@pytest.fixture(scope="module")
def losses() -> np.ndarray:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    job = plan_job(request(tokens=320), CellStore(None))
    cells = run_cells(replace(job, arms=job.arms[:1]), range(NUM_RUNS))
    torch.set_num_threads(before)
    return np.array([cells["design", seed].run.val_loss_nats for seed in range(NUM_RUNS)])


def test_the_runs_differ(losses: np.ndarray) -> None:
    assert len(set(losses.tolist())) == NUM_RUNS


@pytest.mark.parametrize("num_seeds", [3, 6])
def test_one_comparison_is_wrong_in_5_percent(losses: np.ndarray, num_seeds: int) -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(NUM_COMPARISONS):
        drawn = rng.choice(losses, 2 * num_seeds, replace=False).tolist()
        found = compare("itself", drawn[:num_seeds], drawn[num_seeds:], margin=NEVER_EQUIVALENT)
        wrong += found.verdict in ("better", "worse")
    assert 0.035 <= wrong / NUM_COMPARISONS <= 0.065


def test_four_comparisons_together_are_wrong_in_5_percent_at_most(losses: np.ndarray) -> None:
    """Holm's bound of the family, whatever the dependence on the one design they share."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(NUM_COMPARISONS):
        design, *others = rng.choice(losses, (5, 4), replace=False).tolist()
        pairs = [Pair(f"arm {i}", design, other) for i, other in enumerate(others)]
        found = compare_all(pairs, margin=NEVER_EQUIVALENT)
        wrong += any(item.verdict in ("better", "worse") for item in found)
    assert wrong / NUM_COMPARISONS <= 0.065
