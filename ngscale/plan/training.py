"""A proxy -> a request of train-small. torch is imported inside, for it may not be there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ngscale.design import Design, design_of
from ngscale.plan.request import Request, has_torch

if TYPE_CHECKING:
    from ngscale.train_small import run

MISSING_TORCH = "torch is not installed; run: pip install 'ngscale[torch]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What is trained for one candidate."""

    name: str
    design: Design
    shrunk: Mapping[str, Any] | None
    """What the proxy keeps and loses; None of a design that is trained itself."""


def trainees(proxies: Mapping[str, Any]) -> list[Trainee]:
    """Those that the record of the proxies has."""
    return [
        Trainee(name=one["name"], design=design_of(one["config"]), shrunk=one["shrunk"])
        for one in proxies["proxies"]
        if one["config"] is not None
    ]


def why_impossible(request: Request, found: Sequence[Trainee] = ()) -> str | None:
    """What keeps this machine from training; None where nothing does."""
    if request.text is None:
        return "no corpus is read"
    if not has_torch():
        return MISSING_TORCH
    if request.text.is_ids and any(one.shrunk is not None for one in found):
        return (
            "the corpus is ids of the target's tokenizer, and proxies have another; give the text "
            "itself"
        )
    return None


def training_request(request: Request, trainee: Trainee, *, hours: float | None) -> "run.Request":
    """The design against its MoE, its placebos and its base, on the plan's text.

    Raises:
        NgscaleError: whatever the text cannot be read for.
    """
    from ngscale.train_small.candidates import Candidate
    from ngscale.train_small.config import TRAINING
    from ngscale.train_small.run import Request as TrainingRequest
    from ngscale.train_small.threads import settle_threads

    settle_threads()
    assert request.text is not None
    embedded = f"bpe-{trainee.design.model.vocab_size}"
    named = None if trainee.shrunk is not None else request.text.tokenizer
    stream, source = request.text.read(named or embedded)
    shrunk = None if trainee.shrunk is None else dict(trainee.shrunk)
    return TrainingRequest(
        candidates=(Candidate(design=trainee.design, shrunk=shrunk),),
        stream=stream,
        source=dict(source),
        num_seeds=request.num_seeds,
        hours=hours,
        tokens=request.tokens,
        device=request.device,
        # A verdict needs the loss at the end alone, and evaluations take longer than steps where
        # the time is short.
        training=replace(TRAINING, num_evals=1),
    )
