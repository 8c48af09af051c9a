"""Stage 6: one candidate's proxy against its equal-total MoE, its placebos and its base."""

from pathlib import Path

from ngscale.design import decoder_config
from ngscale.plan.request import Request
from ngscale.plan.stages import Made, Stage
from ngscale.plan.training import Trainee, training_request


def name_of(candidate: str) -> str:
    """The stage's."""
    return f"6-train-{candidate}"


def unknown(candidate: str) -> str:
    """What is not known without it."""
    return f"Whether {candidate} beats experts of equal total, or only a placebo, at any scale."


def train_stage(request: Request, trainee: Trainee, hours: float | None) -> Stage:
    """``ngscale train-small``; runs that were finished or cut short are taken up.

    Raises:
        NgscaleError: whatever the text cannot be read for.
    """
    from ngscale.train_small.run import shared_inputs, training_device

    training = training_request(request, trainee, hours=hours)

    def make(directory: Path) -> Made:
        from ngscale.train_small.cells import CellStore
        from ngscale.train_small.run import plan_job, run_job
        from ngscale.train_small.summary import build_report

        store = CellStore(directory, keep_weights=False)
        record, speeds = run_job(plan_job(training, store))
        measured = {"tokens_per_s": speeds}
        return Made(record=record, report=build_report(record), measured=measured)

    bound = ("--hours", f"{hours:g}") if hours is not None else ("--tokens", str(request.tokens))
    seeds = ("--seeds", str(request.num_seeds))
    return Stage(
        name=name_of(trainee.name),
        inputs={
            **shared_inputs(training, training_device(request.device)),
            "source": dict(training.source),
            "design": decoder_config(trainee.design),
            "shrunk": trainee.shrunk,
            "hours": hours,
            "tokens": request.tokens,
            "num_seeds": request.num_seeds,
        },
        make=make,
        argv=("train-small", f"configs/{trainee.name}.json", *bound, *seeds, *request.argv),
    )
