"""``ngscale train-small``: options -> design, corpus, runs -> answer."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ngscale.commands.answer import (
    CorpusOption,
    DtypeOption,
    JsonOption,
    OnBadRecordOption,
    OutOption,
    SplitOption,
    TextFieldOption,
    TokenizerOption,
    answer,
)
from ngscale.commands.source import read_source
from ngscale.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from ngscale.design import Design

_DEVICES = ("auto", "cpu", "cuda")
_SCHEDULES = ("wsd", "cosine")


def train_small(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A config.json of model_type ngscale_moe, or a directory with one. Default: a "
            "built-in design of 5.1M parameters."
        ),
    ] = None,
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of every arm.")] = 3,
    hours: Annotated[
        float, typer.Option(metavar="H", min=0.001, help="Bound on the whole run.")
    ] = 0.1,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Training tokens per run, instead of --hours."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    accumulation: Annotated[
        int, typer.Option(metavar="N", min=1, help="Parts that a step's batch is taken in.")
    ] = 1,
    schedule: Annotated[
        str, typer.Option(metavar="NAME", help="wsd (warmup, plateau, decay) or cosine.")
    ] = "wsd",
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the layers; CUDA only.")
    ] = False,
    checkpoint_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between checkpoints (with --out).")
    ] = 200,
    keep_checkpoints: Annotated[
        int, typer.Option(metavar="N", min=1, help="Checkpoints of a run that are kept.")
    ] = 2,
    track: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Report every run to a trackio project.")
    ] = None,
    text_field: TextFieldOption = "text",
    split: SplitOption = "train",
    dtype: DtypeOption = "uint16",
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Train the design, a parameter-equivalent MoE and a placebo, and compare them.

    A run that cannot conclude says so: fewer than 3 seeds, fewer than 20 tokens per active
    parameter, or an interval that contains 0. With --out, the same command takes up finished runs
    and resumes the one that was cut short, to the last bit. torchrun -m ngscale train-small ...
    trains on several processes, each of which holds its share of the tables.

    Example: ngscale train-small --hours 0.1 --out report
    """
    if schedule not in _SCHEDULES:
        raise UsageError(f"--schedule {schedule}: takes {', '.join(_SCHEDULES)}")
    if device not in _DEVICES:
        raise UsageError(f"--device {device}: takes {', '.join(_DEVICES)}")
    # Before torch loads OpenMP, whose threads otherwise spin while they wait: beside one busy
    # neighbour on two cores a step of 0.3 s then took 3 to 6 s, and 0.4 s with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from ngscale.train_small.cells import CellStore
        from ngscale.train_small.config import TRAINING
        from ngscale.train_small.distributed import is_first
        from ngscale.train_small.run import Request, train_small
        from ngscale.train_small.summary import build_report
    except ModuleNotFoundError as error:
        if error.name in ("torch", "safetensors"):
            raise MissingExtraError(error.name, "torch") from error
        raise
    from ngscale.corpus import default_sources
    from ngscale.tokens import is_bin

    design, own_tokenizer = _design(target)
    is_ids = is_bin(corpus or default_sources())
    stream, source = read_source(
        corpus,
        tokenizer or own_tokenizer,
        text_field=text_field,
        split=split,
        dtype=dtype,
        vocab_size=design.model.vocab_size if is_ids else None,
        on_bad_record=on_bad_record,
    )
    request = Request(
        design=design,
        stream=stream,
        source=source,
        num_seeds=seeds,
        hours=hours,
        tokens=tokens,
        device=device,
        training=replace(
            TRAINING,
            accumulation=accumulation,
            schedule=cast("Literal['wsd', 'cosine']", schedule),
        ),
        compiled=compiled,
        track=track,
    )
    store = CellStore(out, checkpoint_every=checkpoint_every, keep_checkpoints=keep_checkpoints)
    record = train_small(request, store)
    if is_first():
        answer(record, build_report(record), as_json=as_json, out=out)


def _design(target: str | None) -> tuple["Design", str]:
    """The design, and the tokenizer to use where none is named."""
    from ngscale.design import read_design
    from ngscale.ngram_config import DECODER_MODEL_TYPE
    from ngscale.presets import resolve
    from ngscale.train_small.config import DEFAULT_DESIGN, DEFAULT_TOKENIZER

    if target is None:
        return DEFAULT_DESIGN, DEFAULT_TOKENIZER
    path = resolve(target)
    design = read_design(path)
    if design.model.model_type != DECODER_MODEL_TYPE:
        raise UsageError(
            f"{target}: is of model_type {design.model.model_type}, which is not trained here; "
            f"give a config.json of {DECODER_MODEL_TYPE}, or no target for the built-in design"
        )
    if design.ngram is None:
        raise UsageError(f"{target}: this design has no n-gram tables, so nothing to compare")
    beside = path.parent / "tokenizer.json"
    return design, str(beside) if beside.is_file() else f"bpe-{design.model.vocab_size}"
