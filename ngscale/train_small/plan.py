"""What fits in the time: measure real steps of every arm, then give all the same tokens."""

import contextlib
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ngscale.errors import ResourceError
from ngscale.params import total_parameters
from ngscale.records import Column, Report, RunRecord, Section, Table
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks
from ngscale.train_small.distributed import World
from ngscale.train_small.trainer import Trainer

_NUM_TIMED_STEPS = 4
USABLE_FRAC = 0.8
"""Share of the remaining time that is planned; the rest is for a machine that slows down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """Seconds, measured on this machine."""

    setup_s: float
    step_s: float
    eval_s: float
    memory_bytes: int = 0
    """Peak while it was measured: of the device's allocator, or of the whole process on a CPU."""

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
    _reset_peak(device)
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
        memory_bytes=_peak_bytes(device),
    )


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # Linux only: forget VmHWM
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        peak: int = torch.cuda.max_memory_allocated(device)
        return peak
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def plan_steps(
    costs: Sequence[ArmCost], *, num_seeds: int, remaining_s: float, training: Training
) -> int:
    """Steps per run, the same for all, so that every arm and seed fits into the time.

    Raises:
        ResourceError: not even one step per run fits.
    """
    per_seed_s = USABLE_FRAC * remaining_s / num_seeds
    fixed_s = sum(cost.run_s(training.num_evals, training) for cost in costs)
    fixed_s -= sum(training.num_evals * cost.step_s for cost in costs)
    num_steps = int((per_seed_s - fixed_s) / sum(cost.step_s for cost in costs))
    if num_steps < training.num_evals:
        least_s = sum(cost.run_s(training.num_evals, training) for cost in costs) * num_seeds
        raise ResourceError(
            f"--hours: {len(costs)} arms x {num_seeds} seeds do not fit; the least is about "
            f"{least_s / USABLE_FRAC / 3600:.3f} hours on this machine, or use fewer --seeds"
        )
    return num_steps


def plan_record(
    rows: Sequence[Mapping[str, Any]], *, answer: str, inputs: Mapping[str, Any]
) -> RunRecord:
    """What ``--dry-run`` answers with: a measurement of this machine, so no record of a run."""
    return RunRecord(
        verb="train-small-plan", answer=answer, inputs=inputs, results={"arms": list(rows)}
    )


def plan_row(
    arm: Arm, cost: ArmCost, *, num_steps: int, num_seeds: int, training: Training
) -> dict[str, Any]:
    """One arm's share of the plan."""
    return {
        "arm": arm.name,
        "total_parameters": total_parameters(arm.design),
        "active_parameters": arm.active_parameters,
        "memory_bytes": cost.memory_bytes,
        "step_s": cost.step_s,
        "run_s": cost.run_s(num_steps, training),
        "all_runs_s": num_seeds * cost.run_s(num_steps, training),
    }


def plan_report(record: RunRecord) -> Report:
    """Time and memory per arm."""
    rows = [{**row, "memory_mib": row["memory_bytes"] / 2**20} for row in record.results["arms"]]
    table = Table(
        name="plan",
        title="Per arm, measured from a few real steps",
        columns=(
            Column(key="arm", title="arm"),
            Column(key="total_parameters", title="parameters", spec=","),
            Column(key="active_parameters", title="active", spec=","),
            Column(key="memory_mib", title="peak MiB", spec=",.0f"),
            Column(key="step_s", title="s/step", spec=".3f"),
            Column(key="run_s", title="s/run", spec=",.1f"),
            Column(key="all_runs_s", title="s, all seeds", spec=",.1f"),
        ),
        rows=rows,
    )
    return Report(
        title="The plan of a comparison",
        answer=record.answer,
        sections=(Section(heading="Time and memory", tables=(table,)),),
    )
