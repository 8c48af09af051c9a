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
    torch_extra,
)
from ngscale.commands.source import read_source
from ngscale.errors import UsageError
from ngscale.train_small.threads import wait_asleep

if TYPE_CHECKING:
    from ngscale.design import Design
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
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Run every window once more under each amplification: the embedding's share and "
            "the loss.",
        ),
    ] = True,
    emit_arms: Annotated[
        Path | None,
        typer.Option(
            "--emit-arms",
            metavar="DIR",
            help="Write a config.json per amplification, candidates for train-small.",
        ),
    ] = None,
    series: Annotated[
        bool,
        typer.Option(
            "--series",
            help="DIR is a run of train-small (<out>/runs/<arm>-seed<n>): probe every checkpoint "
            "that it kept.",
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
    wait_asleep()  # before anything loads torch
    reading: dict[str, Any] = {
        "text_field": text_field,
        "split": split,
        "on_bad_record": on_bad_record,
    }
    if tables and against is not None:
        raise UsageError("--against: compares runs of two models; --tables runs none")
    if tables and emit_arms is not None:
        raise UsageError("--emit-arms: needs the measured norms; --tables runs no model")
    if series and (tables or emit_arms is not None):
        other = "--tables" if tables else "--emit-arms"
        raise UsageError(f"--series: reads runs of train-small alone, without {other}")
    if tables:
        record, report = _autopsy(_fetched(directory), corpus, tokenizer, reading)
        answer(record, report, as_json=as_json, out=out)
        return
    with torch_extra():
        from ngscale.model.device import pick_device
        from ngscale.probe.against import add_other
        from ngscale.probe.arms import arms_design
        from ngscale.probe.norms_report import build_report
        from ngscale.probe.run import load, num_passes, probe_checkpoint, read_windows
        from ngscale.probe.series import add_other_series, find_run, probe_series
    from ngscale.artefacts import cache_dir
    from ngscale.console import progress, say
    from ngscale.corpus import default_sources, source_files
    from ngscale.probe import series_report

    num_bytes = sum(path.stat().st_size for path in source_files(corpus or default_sources()))

    def read(place: Path) -> "RunRecord":
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
        if check and subject.checkpoint.logits is None:
            say("no check: this model is run only once")
        total = num_passes(subject, check=check) * len(subject.windows.places)
        with progress("windows", total) as done:
            return probe_checkpoint(subject, check=check, done=done)

    def read_series(place: Path) -> "RunRecord":
        run = find_run(place)
        model = run.design.model
        with progress("tokenising", num_bytes, unit="B") as advance:
            cut, described = read_windows(
                place,
                corpus,
                tokenizer,
                vocab_size=model.vocab_size,
                is_own=True,
                tokens=tokens,
                windows=windows,
                draws=draws,
                **reading,
                cache=cache_dir(),
                advance=advance,
            )
        with progress("windows", len(run.points) * len(cut.places)) as done:
            return probe_series(run, cut, described, device=pick_device(device), done=done)

    if series:
        record = read_series(Path(directory))
        if against is not None:
            record = add_other_series(record, read_series(Path(against)))
        answer(record, series_report.build_report(record), as_json=as_json, out=out)
        return
    place = _fetched(directory)
    design = None if emit_arms is None else arms_design(place)
    record = read(place)
    if design is not None:
        assert emit_arms is not None
        _emit(design, record, emit_arms, place)
    if against is not None:
        record = add_other(record, read(_fetched(against)))
    answer(record, build_report(record), as_json=as_json, out=out)


def _emit(design: "Design", record: "RunRecord", out: Path, checkpoint: Path) -> None:
    """Write the arms; tell how to train them."""
    from ngscale.console import say
    from ngscale.probe.arms import emit_arms

    factors = {
        one["amplification"]: one["factor"] for one in record.results["advice"]["amplifications"]
    }
    emitted = emit_arms(design, factors, out, checkpoint=checkpoint)
    for clause in emitted.left_out:
        say(f"left out: {clause}")
    say(f"{out}: {', '.join(emitted.names)}; all against their parameter-equivalent MoE, or none")
    say("against sqrt(D) on the same batches:")
    for command in emitted.commands:
        say(f"  {command}")


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
    from ngscale.console import progress
    from ngscale.probe.table_files import find_tables
    from ngscale.probe.table_report import build_report
    from ngscale.probe.table_run import probe_tables
    from ngscale.probe.windows import tokenizer_name
    from ngscale.tokens import is_bin

    found = find_tables(directory)
    stream = None
    if corpus:
        if is_bin(corpus):
            raise UsageError("--corpus: probe takes text, not a .bin of token ids")
        named = tokenizer or tokenizer_name(
            directory, vocab_size=found.specs[0].vocab_size, is_own=found.is_own
        )
        stream, _ = read_source(corpus, named, **reading)
    with progress("tables", len(found.tables)) as done:
        record = probe_tables(found, stream, done=done)
    return record, build_report(record)
