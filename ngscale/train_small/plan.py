"""What fits in the time: measure real steps of every arm, then give all the same tokens."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ngscale.errors import ResourceError
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks
from ngscale.train_small.distributed import World
from ngscale.train_small.trainer import Trainer

_NUM_TIMED_STEPS = 4
_USABLE_FRAC = 0.8
"""Share of the remaining time that is planned; the rest is for a machine that slows down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """Seconds, measured on this machine."""

    setup_s: float
    step_s: float
    eval_s: float

    def run_s(self, num_steps: int, training: Training) -> float:
        """One run: set-up, steps and evaluations."""
        num_evals = min(training.num_evals, num_steps)
        return self.setup_s + num_steps * self.step_s + num_evals * self.eval_s


def measure(
    arm: Arm,
    blocks: Blocks,
    training: Training,
    device: torch.device,
    *,
    world: World,
    compiled: bool,
) -> ArmCost:
    """Time the set-up, a few real steps (after one that warms up) and one evaluation."""
    start = time.monotonic()
    trainer = Trainer(
        arm,
        blocks,
        seed=0,
        num_steps=_NUM_TIMED_STEPS + 1,
        training=training,
        device=device,
        world=world,
        compiled=compiled,
    )
    setup_s = time.monotonic() - start
    step_times = []
    for step in range(_NUM_TIMED_STEPS + 1):
        start = time.monotonic()
        trainer.step(step)
        trainer.check()  # waits for the device
        step_times.append(time.monotonic() - start)
    start = time.monotonic()
    trainer.evaluate()
    return ArmCost(
        setup_s=setup_s,
        step_s=statistics.median(step_times[1:]),
        eval_s=time.monotonic() - start,
    )


def plan_steps(
    costs: Sequence[ArmCost], *, num_seeds: int, remaining_s: float, training: Training
) -> int:
    """Steps per run, the same for all, so that every arm and seed fits into the time.

    Raises:
        ResourceError: not even one step per run fits.
    """
    per_seed_s = _USABLE_FRAC * remaining_s / num_seeds
    fixed_s = sum(cost.setup_s + training.num_evals * cost.eval_s for cost in costs)
    num_steps = int((per_seed_s - fixed_s) / sum(cost.step_s for cost in costs))
    if num_steps < training.num_evals:
        least_s = sum(cost.run_s(training.num_evals, training) for cost in costs) * num_seeds
        raise ResourceError(
            f"--hours: {len(costs)} arms x {num_seeds} seeds do not fit; the least is about "
            f"{least_s / _USABLE_FRAC / 3600:.3f} hours on this machine, or use fewer --seeds"
        )
    return num_steps
