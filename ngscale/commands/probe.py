"""``ngscale probe``: a checkpoint and text -> norms along the residual stream -> answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngscale.commands.answer import (
    CorpusOption,
    JsonOption,
    OnBadRecordOption,
    OutOption,
    SplitOption,
    TextFieldOption,
    TokenizerOption,
    answer,
)
from ngscale.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from ngscale.records import Report, RunRecord


def probe(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A checkpoint: config.json and safetensors, of transformers or of train-small; a "
            "GGUF file; or org/name on the Hugging Face hub.",
        ),
    ],
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 1023,
    windows: Annotated[
        int,
        typer.Option(
            min=1,
            help="Windows of every text and draw. Each --corpus is a text of its own.",
        ),
    ] = 1,
    draws: Annotated[
        int,
        typer.Option(
            min=1,
            help="Draws of windows: the first evenly spaced from the text's start, others random.",
        ),
    ] = 1,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda, ...: where the model runs.")
    ] = "auto",
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Take pytorch_model.bin where there are no safetensors; tensors only, no code.",
        ),
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Hold one layer at a time, read by range: for checkpoints larger than memory.",
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Another checkpoint, read with the same tokens."),
    ] = None,
    tables: Annotated[
        bool,
        typer.Option(
            "--tables",
            help="Read the n-gram tables instead: dead and repeated rows, rank, fewer bits. The "
            "model is not run; with --corpus, by how often it reads each row.",
        ),
    ] = False,
    text_field: TextFieldOption = "text",
    split: SplitOption = "train",
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Whether the embedding is drowned in the residual stream, and what amplification mends it.

    Example: ngscale probe path/to/SmolLM2-135M --tokens 1023 --out report
    """
    reading: dict[str, Any] = {
        "text_field": text_field,
        "split": split,
        "on_bad_record": on_bad_record,
    }
    if tables and against is not None:
        raise UsageError("--against: compares runs of two models; --tables runs none")
    if tables:
        record, report = _autopsy(_fetched(directory), corpus, tokenizer, reading)
        answer(record, report, as_json=as_json, out=out)
        return
    try:
        from ngscale.probe.against import add_other
        from ngscale.probe.run import load, probe_checkpoint
        from ngscale.probe.summary import build_report
    except ModuleNotFoundError as error:
        if error.name in ("torch", "safetensors"):
            raise MissingExtraError(error.name, "torch") from error
        raise
    from ngscale.artefacts import cache_dir
    from ngscale.console import progress, say
    from ngscale.corpus import default_sources, source_files

    num_bytes = sum(path.stat().st_size for path in source_files(corpus or default_sources()))

    def read(name: str) -> "RunRecord":
        place = _fetched(name)
        say(f"loading {place}")
        with progress("tokenising", num_bytes, unit="B") as advance:
            subject = load(
                place,
                corpus,
                tokenizer,
                tokens=tokens,
                windows=windows,
                device=device,
                draws=draws,
                allow_pickle=allow_pickle,
                stream=stream,
                **reading,
                cache=cache_dir(),
                advance=advance,
            )
        with progress("windows", len(subject.windows.places)) as done:
            return probe_checkpoint(subject, done=done)

    record = read(directory)
    if against is not None:
        record = add_other(record, read(against))
    answer(record, build_report(record), as_json=as_json, out=out)


def _fetched(name: str) -> Path:
    """The directory or file itself, or what the hub has under ``name``."""
    from ngscale.console import say
    from ngscale.hub import fetch_model, looks_like_id

    if not looks_like_id(name):
        return Path(name)
    say(f"fetching {name}")
    return fetch_model(name)


def _autopsy(
    directory: Path, corpus: list[str] | None, tokenizer: str | None, reading: dict[str, Any]
) -> "tuple[RunRecord, Report]":
    """``--tables``: needs no torch."""
    from ngscale.artefacts import cache_dir
    from ngscale.console import progress
    from ngscale.corpus import source_files
    from ngscale.probe.table_files import find_tables
    from ngscale.probe.table_report import build_report
    from ngscale.probe.table_run import load_text, probe_tables

    found = find_tables(directory)
    stream = None
    if corpus:
        num_bytes = sum(path.stat().st_size for path in source_files(corpus))
        with progress("tokenising", num_bytes, unit="B") as advance:
            stream = load_text(
                directory, corpus, tokenizer, **reading, cache=cache_dir(), advance=advance
            )
    with progress("tables", len(found.tables)) as done:
        record = probe_tables(found, stream, done=done)
    return record, build_report(record)
