"""A design beside its parameter-equivalent MoE and its placebo, batch by batch: what takes time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ngscale.decode.isolation import (
    PARTS,
    Step,
    Switches,
    measure_step,
    measure_switches,
    read_context,
)
from ngscale.design import Design
from ngscale.errors import InputError, UsageError
from ngscale.model.decoder import Decoder
from ngscale.model.longcat_keys import decoder_keys
from ngscale.params import most_active, parameter_equivalent_moe, total_parameters
from ngscale.spec import capacity_1
from ngscale.tokens import TokenStream

DESIGN, MOE, PLACEBO = "n-gram", "equivalent MoE", "capacity 1"
_INITIAL_SEED = 0
"""Of weights, which decide no time but through the choice of experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is measured."""

    batches: Sequence[int]
    context: int
    """Tokens read before the step."""
    draft_length: int
    """Tokens verified at once are one more."""
    rounds: int
    """How often the models are measured in turn: a machine has faster and slower minutes."""
    min_seconds: float
    """A timing repeats for so long at least, in each round."""
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One model in one round."""

    model: str
    total_parameters: int
    active_parameters: int
    steps: tuple[Step, ...]
    """Of one token and of ``draft_length + 1``, per batch."""
    switches: Mapping[int, Switches]
    """By batch; of the design alone."""


def models(design: Design) -> dict[str, Design]:
    """The design and what it is held against.

    Raises:
        InputError: it has no tables.
    """
    if not design.ngrams:
        raise InputError("the design has no n-gram tables: there is nothing to isolate")
    placebo = replace(design, ngrams=tuple(capacity_1(spec) for spec in design.ngrams))
    return {DESIGN: design, MOE: parameter_equivalent_moe(design), PLACEBO: placebo}


def windows_of(stream: TokenStream, request: Request, vocab_size: int) -> Int64[np.ndarray, "B L"]:
    """Evenly spaced over the text, as many as the largest batch.

    Raises:
        UsageError: the text is too short or has ids that the model has not.
    """
    length = request.context + request.draft_length + 1
    count = max(request.batches)
    if len(stream.tokens) < length:
        raise UsageError(f"--corpus: has {len(stream.tokens):,} tokens, a window takes {length:,}")
    if stream.vocab_size > vocab_size:
        raise UsageError(
            f"--tokenizer: has {stream.vocab_size:,} ids, the model {vocab_size:,}; use its own"
        )
    starts = np.linspace(0, len(stream.tokens) - length, count).astype(np.int64)
    return np.stack([stream.tokens[at : at + length] for at in starts]).astype(np.int64)


def measure_models(
    design: Design, stream: TokenStream, request: Request, done: Callable[[], object]
) -> list[list[Timed]]:
    """By round; one model after the other, so that no two are in memory."""
    windows = windows_of(stream, request, decoder_keys(design.model).vocab_size)
    cut = torch.from_numpy(windows).to(request.device)
    held = models(design)
    return [
        [_measure(name, one, cut, request, done) for name, one in held.items()]
        for _ in range(request.rounds)
    ]


def _measure(
    name: str, design: Design, windows: Tensor, request: Request, done: Callable[[], object]
) -> Timed:
    decoder = Decoder(design)
    decoder.initialise(_INITIAL_SEED)
    decoder = decoder.to(request.device, request.dtype).eval()
    steps, switches = [], {}
    for batch in request.batches:
        context = windows[:batch, : request.context]
        new = windows[:batch, request.context :].contiguous()
        state = read_context(decoder, context, most_tokens=new.shape[1])
        for tokens in (new[:, :1].contiguous(), new):
            steps.append(measure_step(decoder, state, tokens, min_seconds=request.min_seconds))
            done()
        if name == DESIGN:
            switched = measure_switches(decoder, state, new, min_seconds=request.min_seconds)
            if switched is not None:
                switches[batch] = switched
    return Timed(
        model=name,
        total_parameters=total_parameters(design),
        active_parameters=most_active(design),
        steps=tuple(steps),
        switches=switches,
    )


def results(rounds: Sequence[Sequence[Timed]], request: Request) -> dict[str, Any]:
    """Plain JSON; times in microseconds, medians over rounds; ranges are those of the rounds."""
    by_model = list(zip(*rounds, strict=True))
    return {
        "models": [
            {
                "model": one.model,
                "total_parameters": one.total_parameters,
                "active_parameters": one.active_parameters,
            }
            for one in rounds[0]
        ],
        "steps": [
            _step(one[0].model, steps, designs)
            for one in by_model
            for steps, designs in zip(_steps(one), _steps(by_model[0]), strict=True)
        ],
        "drafting": [
            _drafting(one, batch, request) for one in by_model for batch in request.batches
        ],
        "switches": [_switches(by_model[0], batch, request) for batch in rounds[0][0].switches],
    }


def _steps(one: Sequence[Timed]) -> list[tuple[Step, ...]]:
    """One model's, each by round."""
    return list(zip(*(timed.steps for timed in one), strict=True))


def _step(model: str, steps: Sequence[Step], designs: Sequence[Step]) -> dict[str, Any]:
    """``of_design`` compares the two of one round."""
    step = steps[0]
    seconds = median(one.seconds for one in steps)
    parts = {part.name: part.num_bytes for part in step.parts}
    times = {
        name: median(part.seconds for one in steps for part in one.parts if part.name == name)
        for name in PARTS
    }
    times["rest"] = seconds - sum(time for name, time in times.items() if name != "rest")
    return {
        "model": model,
        "batch": step.batch,
        "num_tokens": step.num_tokens,
        **_over_rounds("step_us", [1e6 * one.seconds for one in steps]),
        **_over_rounds(
            "of_design",
            [one.seconds / its.seconds for one, its in zip(steps, designs, strict=True)],
        ),
        "tokens_per_s": step.batch * step.num_tokens / seconds,
        "parts": [
            {
                "part": name,
                "us": 1e6 * time,
                "share": time / seconds,
                "bytes": parts[name],
            }
            for name, time in times.items()
        ],
    }


def _over_rounds(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: median(values), f"{name}_low": min(values), f"{name}_high": max(values)}


def _drafting(one: Sequence[Timed], batch: int, request: Request) -> dict[str, Any]:
    """How many tokens a verification must bring for drafting to pay, drafts being free."""
    single, verify = _of(one, batch, 1), _of(one, batch, request.draft_length + 1)
    return {
        "model": one[0].model,
        "batch": batch,
        "step_us": 1e6 * median(single),
        "verify_us": 1e6 * median(verify),
        **_over_rounds("break_even_tokens", [v / s for v, s in zip(verify, single, strict=True)]),
    }


def _switches(one: Sequence[Timed], batch: int, request: Request) -> dict[str, Any]:
    switched = [timed.switches[batch] for timed in one]
    return {
        "batch": batch,
        "fused_us": 1e6 * median(switch.fused for switch in switched),
        "table_by_table_us": 1e6 * median(switch.table_by_table for switch in switched),
        "kept_us": 1e6 * median(switch.kept for switch in switched),
        "step_us": 1e6 * median(_of(one, batch, request.draft_length + 1)),
    }


def _of(one: Sequence[Timed], batch: int, num_tokens: int) -> list[float]:
    """Seconds by round."""
    return [
        step.seconds
        for timed in one
        for step in timed.steps
        if (step.batch, step.num_tokens) == (batch, num_tokens)
    ]
