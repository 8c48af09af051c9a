"""A design beside its parameter-equivalent MoE and its placebo, batch by batch: what takes time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ngscale.decode.isolation import (
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
    min_seconds: float
    """A timing repeats for so long at least."""
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One model's steps."""

    model: str
    total_parameters: int
    active_parameters: int
    steps: tuple[Step, ...]
    """Of one token and of ``draft_length + 1``, per batch."""
    switches: Mapping[int, Switches | None]
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
) -> list[Timed]:
    """One model after the other, so that no two are in memory."""
    windows = windows_of(stream, request, decoder_keys(design.model).vocab_size)
    found = []
    for name, one in models(design).items():
        decoder = Decoder(one)
        decoder.initialise(_INITIAL_SEED)
        decoder = decoder.to(request.device, request.dtype).eval()
        verified = request.draft_length + 1
        steps, switches = [], dict[int, Switches | None]()
        for batch in request.batches:
            taken = torch.from_numpy(windows[:batch]).to(request.device)
            context, new = taken[:, : request.context], taken[:, request.context :].contiguous()
            state = read_context(decoder, context, most_tokens=verified)
            for tokens in (new[:, :1].contiguous(), new):
                steps.append(measure_step(decoder, state, tokens, min_seconds=request.min_seconds))
                done()
            if name == DESIGN:
                switches[batch] = measure_switches(
                    decoder, state, new, min_seconds=request.min_seconds
                )
        found.append(
            Timed(
                model=name,
                total_parameters=total_parameters(one),
                active_parameters=most_active(one),
                steps=tuple(steps),
                switches=switches,
            )
        )
        del decoder
    return found


def results(timed: Sequence[Timed], request: Request) -> dict[str, Any]:
    """Plain JSON; times in microseconds."""
    return {
        "models": [
            {
                "model": one.model,
                "total_parameters": one.total_parameters,
                "active_parameters": one.active_parameters,
            }
            for one in timed
        ],
        "steps": [_step(one, step) for one in timed for step in one.steps],
        "drafting": [_drafting(one, batch, request) for one in timed for batch in request.batches],
        "switches": [
            {
                "batch": batch,
                **{f"{key}_us": 1e6 * value for key, value in asdict(switch).items()},
                "step_us": 1e6 * _of(one, batch, request.draft_length + 1).seconds,
            }
            for one in timed
            for batch, switch in one.switches.items()
            if switch is not None
        ],
    }


def _step(one: Timed, step: Step) -> dict[str, Any]:
    return {
        "model": one.model,
        "batch": step.batch,
        "num_tokens": step.num_tokens,
        "step_us": 1e6 * step.seconds,
        "tokens_per_s": step.batch * step.num_tokens / step.seconds,
        "parts": [
            {
                "part": part.name,
                "us": 1e6 * part.seconds,
                "share": part.seconds / step.seconds,
                "bytes": part.num_bytes,
            }
            for part in step.parts
        ],
    }


def _drafting(one: Timed, batch: int, request: Request) -> dict[str, Any]:
    """How many tokens a verification must bring for drafting to pay, drafts being free."""
    single, verify = _of(one, batch, 1), _of(one, batch, request.draft_length + 1)
    return {
        "model": one.model,
        "batch": batch,
        "step_us": 1e6 * single.seconds,
        "verify_us": 1e6 * verify.seconds,
        "break_even_tokens": verify.seconds / single.seconds,
    }


def _of(one: Timed, batch: int, num_tokens: int) -> Step:
    return next(s for s in one.steps if (s.batch, s.num_tokens) == (batch, num_tokens))
