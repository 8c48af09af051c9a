"""Stage 5: how many candidates the time is enough for, by a few real steps of the first.

The time is divided among as many candidates as would each still get 20 training tokens per active
parameter, and given to the first alone where not even that one does: three runs that cannot
conclude say no more than one.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngscale.conclusive import MIN_TOKENS_PER_ACTIVE_PARAMETER
from ngscale.design import decoder_config
from ngscale.errors import ResourceError
from ngscale.params import most_active
from ngscale.plan.request import Request, hours_of
from ngscale.plan.stages import Made, Stage
from ngscale.plan.training import Trainee, training_request
from ngscale.records import Column, Report, RunRecord, Section, Table
from ngscale.units import format_count

if TYPE_CHECKING:
    from ngscale.train_small import run

NAME = "5-schedule"
UNKNOWN = "How long training the candidates' proxies takes here."


def schedule_stage(request: Request, trainees: Sequence[Trainee]) -> Stage:
    """Measured once, so that a plan that is resumed trains what it set out to train.

    Raises:
        NgscaleError: whatever the text cannot be read for.
    """
    from ngscale.train_small.run import shared_inputs, training_device

    (first, *_) = trainees
    hours = hours_of(request)
    training = training_request(request, first, hours=hours)
    inputs = {
        **shared_inputs(training, training_device(request.device)),
        "designs": {one.name: decoder_config(one.design) for one in trainees},
        "hours": hours,
        "tokens": request.tokens,
        "num_seeds": request.num_seeds,
        "num_candidates": request.num_candidates,
    }

    def make(directory: Path) -> Made:
        del directory
        results = _results(request, training, trainees, hours)
        record = RunRecord(
            verb="plan-schedule", answer=_answer(results), inputs=inputs, results=results
        )
        return Made(record=record, report=build_report(record))

    return Stage(
        name=NAME,
        inputs=inputs,
        make=make,
        argv=("train-small", f"configs/{first.name}.json", "--dry-run", *request.argv),
    )


def _results(
    request: Request, training: "run.Request", trainees: Sequence[Trainee], hours: float | None
) -> dict[str, Any]:
    names = [one.name for one in trainees]
    most = request.num_candidates or len(names)
    wanted = MIN_TOKENS_PER_ACTIVE_PARAMETER * most_active(trainees[0].design)
    if hours is None:
        return {
            "trained": names[:most],
            "left_out": names[most:],
            "hours_each": None,
            "tokens_alone": request.tokens,
            "tokens_wanted": wanted,
            "hours_wanted": None,
        }
    from ngscale.train_small.run import expected_tokens

    left = hours - (time.monotonic() - request.started) / 3600
    if left <= 0:
        raise ResourceError(
            f"--hours {hours:g} passed before anything was trained; give more, or the same "
            "command again: finished stages are taken up"
        )
    alone, hours_per_token = expected_tokens(training, left)
    count = min(most, max(1, alone // wanted))
    return {
        "trained": names[:count],
        "left_out": names[count:],
        "hours_each": left / count,
        "tokens_alone": alone,
        "tokens_wanted": wanted,
        "hours_wanted": _rounded_up(hours_per_token * wanted * len(names)),
    }


def _rounded_up(hours: float) -> float:
    """To two digits: a machine's speed is not known better."""
    place = 10.0 ** (math.floor(math.log10(hours)) - 1)
    return math.ceil(hours / place) * place


def _answer(results: dict[str, Any]) -> str:
    trained = ", ".join(results["trained"])
    left = ", ".join(results["left_out"])
    untrained = f" Not trained: {left}." if left else ""
    if results["hours_each"] is None:
        return f"{format_count(results['tokens_alone'])} tokens a run: {trained}.{untrained}"
    return (
        f"The time holds about {format_count(results['tokens_alone'])} tokens a run of one "
        f"candidate, {MIN_TOKENS_PER_ACTIVE_PARAMETER} per active parameter are "
        f"{format_count(results['tokens_wanted'])}: trained are {trained}.{untrained} All of them "
        f"with that many take about {results['hours_wanted']:g} hours here."
    )


def build_report(record: RunRecord) -> Report:
    """Who gets how much."""
    results = record.results
    rows = [
        {"name": name, "hours": results["hours_each"] if name in results["trained"] else 0.0}
        for name in (*results["trained"], *results["left_out"])
    ]
    columns = (
        Column(key="name", title="candidate"),
        Column(key="hours", title="hours", spec=".2f"),
    )
    table = Table(name="schedule", title="Time of each candidate", columns=columns, rows=rows)
    return Report(
        title="What the time is enough for",
        answer=record.answer,
        sections=(
            Section(
                heading="Schedule",
                paragraphs=(
                    "The time is divided among as many candidates as would each still get "
                    f"{MIN_TOKENS_PER_ACTIVE_PARAMETER} training tokens per active parameter; one "
                    "is always trained.",
                ),
                tables=(table,),
            ),
        ),
    )
