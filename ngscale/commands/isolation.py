"""``ngscale decode --isolate``: a design and text -> the time of each part of a step -> answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.errors import UsageError
from ngscale.units import parse_whole

DEFAULT_BATCHES = "1,4,16,64,256"
_LARGEST_BATCH = 4096
_ROUNDS, _MIN_SECONDS = 5, 0.05
"""A timing repeats for at least so long in each round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for."""

    checkpoint: Path | None
    batches: str
    context_tokens: int
    draft_length: int
    corpus: Sequence[str] | None
    tokenizer: str | None
    source_options: dict[str, Any]
    device: str
    dtype: str
    as_json: bool
    out: Path | None


def run(wanted: Wanted) -> None:
    """Build each model, time its steps, answer.

    Raises:
        UsageError: batches that are none, a text too short.
        InputError: a design without tables.
    """
    from ngscale.commands.answer import answer, torch_extra
    from ngscale.commands.source import read_source
    from ngscale.console import progress
    from ngscale.design import read_design

    with torch_extra():
        from ngscale.decode.isolation_report import build_record, build_report
        from ngscale.decode.isolation_run import Request, measure_models, models
        from ngscale.decode.subject import dtype_of
        from ngscale.model.device import pick_device
        from ngscale.train_small.config import DEFAULT_DESIGN, DEFAULT_TOKENIZER
    dtype = dtype_of(wanted.dtype)
    batches = _batches(wanted.batches)
    design, name = DEFAULT_DESIGN, "the built-in design"
    if wanted.checkpoint is not None:
        path = wanted.checkpoint
        design = read_design(path / "config.json" if path.is_dir() else path)
        name = path.name if path.is_dir() else path.stem
    stream, described = read_source(
        list(wanted.corpus) if wanted.corpus else None,
        wanted.tokenizer or DEFAULT_TOKENIZER,
        **wanted.source_options,
    )
    request = Request(
        batches=batches,
        context=wanted.context_tokens,
        draft_length=wanted.draft_length,
        rounds=_ROUNDS,
        min_seconds=_MIN_SECONDS,
        dtype=dtype,
        device=pick_device(wanted.device),
    )
    num_steps = _ROUNDS * 2 * len(batches) * len(models(design))
    with progress("steps timed", num_steps) as advance:
        timed = measure_models(design, stream, request, lambda: advance(1))
    record = build_record(timed, request, name, described)
    answer(record, build_report(record), as_json=wanted.as_json, out=wanted.out)


def _batches(text: str) -> tuple[int, ...]:
    batches = {parse_whole(part, _LARGEST_BATCH) for part in text.split(",")}
    if 0 in batches:
        raise UsageError(
            f"--batches {text}: takes numbers from 1 to {_LARGEST_BATCH:,}, as 1,16,256"
        )
    return tuple(sorted(batches))
