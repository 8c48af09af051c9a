"""``ngscale plan``: options -> target, limits, text -> stages -> answer."""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngscale import presets
from ngscale.commands.answer import (
    CorpusOption,
    DtypeOption,
    GpusOption,
    HbmOption,
    HostMemoryOption,
    JsonOption,
    OnBadRecordOption,
    SplitOption,
    TextFieldOption,
    TokenizerOption,
    answer,
    starting,
)
from ngscale.commands.source import read_source
from ngscale.errors import UsageError
from ngscale.records import environment
from ngscale.train_small.threads import wait_asleep

if TYPE_CHECKING:
    from ngscale.budget.limits import Limits
    from ngscale.design import Design
    from ngscale.plan.request import Text
    from ngscale.plan.target import Target
    from ngscale.tokens import TokenStream

_DEVICES = ("auto", "cpu", "cuda")
_complete = starting(presets.all_names)


def plan(
    target: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A preset, a config.json, or a directory that holds one.",
            autocompletion=_complete,
        ),
    ],
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    no_corpus: Annotated[
        bool, typer.Option("--no-corpus", help="Arithmetic alone: read no text, train nothing.")
    ] = False,
    total: Annotated[
        str | None,
        typer.Option(metavar="P", help="Parameters in all (68.5B). Default: the target's own."),
    ] = None,
    hbm: HbmOption = None,
    gpus: GpusOption = 1,
    host_memory: HostMemoryOption = None,
    hours: Annotated[
        float | None,
        typer.Option(
            metavar="H", min=0.001, help="Bound on the whole plan. Default: 4, on a CPU 0.15."
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Training tokens per run, instead of --hours."),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Runs of every arm.")] = 3,
    candidates: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Candidates trained at most. Default: as many as the time is enough for.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the stages with about their time and memory."),
    ] = False,
    text_field: TextFieldOption = "text",
    split: SplitOption = "train",
    dtype: DtypeOption = "uint16",
    on_bad_record: OnBadRecordOption = "error",
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The report, the stages and the config.json files. Default: plan-NAME.",
        ),
    ] = None,
) -> None:
    """From a config.json to a reviewed answer: audit, sizes, candidates, proxies, small runs.

    The report begins with the decision, the grade of its evidence and what would change it, and
    ends with config.json files to use. The same command takes up finished stages and resumes the
    one that was cut short; other options redo the stages whose inputs they change. A stage that is
    impossible here (no torch, --no-corpus) is skipped, with what is then not known.

    Example: ngscale plan longcat-flash-lite --no-corpus --out plan
    """
    started = time.monotonic()
    if device not in _DEVICES:
        raise UsageError(f"--device {device}: takes {', '.join(_DEVICES)}")
    if no_corpus and (corpus or tokenizer):
        raise UsageError("--no-corpus reads no text; leave out --corpus and --tokenizer")
    if hours is not None and tokens is not None:
        raise UsageError("--hours and --tokens both bound the training; keep one")
    if hours is not None and not math.isfinite(hours):
        raise UsageError(f"--hours {hours}: takes a number of hours")
    wait_asleep()  # before anything loads torch
    from ngscale.console import say
    from ngscale.ngram_runs import work_directory
    from ngscale.plan import estimates, pages
    from ngscale.plan.ledger import Ledger
    from ngscale.plan.request import Request
    from ngscale.plan.run import Outcome, run_plan
    from ngscale.plan.stages import seconds
    from ngscale.plan.summary import summarise
    from ngscale.plan.target import read_target
    from ngscale.report import write_report

    found = read_target(target)
    root = out or Path(f"plan-{found.name.removesuffix('.json')}")
    options: dict[str, Any] = {
        "text_field": text_field,
        "split": split,
        "dtype": dtype,
        "on_bad_record": on_bad_record,
    }
    request = Request(
        target=found,
        limits=_limits(found.design, total, hbm, gpus, host_memory),
        text=None if no_corpus else _text(corpus, tokenizer, found, options),
        hours=hours,
        tokens=tokens,
        num_seeds=seeds,
        num_candidates=candidates,
        device=device,
        argv=tuple(part for source in corpus or () for part in ("--corpus", source)),
        named=target,
        root=root,
        started=started,
    )

    def show(so_far: Outcome) -> None:
        early = summarise(so_far)
        page = write_report(pages.build_report(early), early, environment(sys.argv[1:]), root)
        say(f"report so far: {page}")

    ledger = Ledger(root, say, dry=dry_run)
    if dry_run:
        estimate = estimates.dry_run(run_plan(request, ledger, show))
        answer(estimate, estimates.build_report(estimate), as_json=as_json, out=None)
        return
    with work_directory(root):
        record = summarise(run_plan(request, ledger, show))
        taken = {
            entry.name: seconds(root / "stages" / entry.name / entry.digest)
            for entry in ledger.entries
            if entry.state == "finished" and entry.digest is not None
        }
        answer(
            record,
            pages.build_report(record),
            as_json=as_json,
            out=root,
            measured={"stage_s": {name: took for name, took in taken.items() if took is not None}},
        )
    if ledger.error is not None:
        raise ledger.error


def _limits(
    design: "Design | None",
    total: str | None,
    hbm: str | None,
    gpus: int,
    host_memory: str | None,
) -> "Limits | None":
    """What candidates must keep to; None of a model whose tables alone are published.

    Raises:
        UsageError: a number that is none.
    """
    from ngscale.budget.limits import Limits
    from ngscale.params import total_parameters
    from ngscale.units import parse_bytes, parse_count

    parameters = parse_count(total) if total else None
    if design is None:
        return None
    return Limits(
        total_parameters=parameters or total_parameters(design),
        hbm_bytes=gpus * parse_bytes(hbm) if hbm else None,
        host_bytes=parse_bytes(host_memory) if host_memory else None,
    )


def _text(
    corpus: list[str] | None,
    tokenizer: str | None,
    target: "Target",
    options: Mapping[str, Any],
) -> "Text":
    """The corpus, to be read by any tokenizer.

    Raises:
        InputError: there is no such file.
    """
    from ngscale.corpus import default_sources, source_files
    from ngscale.plan.request import Text
    from ngscale.tokens import is_bin

    sources = list(corpus or default_sources())
    is_ids = is_bin(sources)
    num_bytes = sum(path.stat().st_size for path in source_files(sources))

    def read(name: str | None) -> "tuple[TokenStream, Mapping[str, Any]]":
        vocab_size = int(target.config["vocab_size"]) if is_ids else None
        return read_source(corpus, name, vocab_size=vocab_size, **options)

    return Text(read=read, tokenizer=tokenizer, is_ids=is_ids, num_bytes=num_bytes)
