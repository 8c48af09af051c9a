"""``ngscale train-small``: options -> design, corpus, runs -> answer."""

import math
from dataclasses import replace
from typing import Annotated, Literal, cast

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
    TrainingDeviceOption,
    answer,
    finite,
    torch_extra,
)
from ngscale.commands.source import read_source
from ngscale.errors import UsageError
from ngscale.train_small.threads import wait_asleep
from ngscale.units import parse_count, parse_whole

_SCHEDULES = ("wsd", "cosine")
_MOST_SEEDS = 1_000


def train_small(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A config.json or preset with n-gram tables (shrunk where it is too big), what "
            "budget --proxy --out wrote, or a directory of candidates. Default: a built-in design "
            "of 5.1M parameters."
        ),
    ] = None,
    corpus: CorpusOption = None,
    tokenizer: TokenizerOption = None,
    seeds: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Runs of every arm; auto: as many as a pilot of two more seeds asks for, to tell "
            "the margin from nothing.",
        ),
    ] = "3",
    hours: Annotated[
        float | None,
        typer.Option(
            metavar="H",
            min=0.001,
            callback=finite,
            help="Bound on the whole run. Default: 2, on a CPU 0.15.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Training tokens per run, instead of --hours."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="One more arm: iso-flop, amplification (on, or off), ideal-hash, table-rows=xF, "
            "table-rows=M,M,...; for candidates also capacity-1, unigram-tables, base-moe. "
            "Repeat for several.",
        ),
    ] = None,
    margin: Annotated[
        float,
        typer.Option(metavar="NATS", help="Differences below it are of no interest."),
    ] = 0.005,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Shrink designs with more active parameters to about so many (2M).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Stop at the plan: time and memory of every arm.")
    ] = False,
    device: TrainingDeviceOption = "auto",
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
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Checkpoints of a run that are kept, also when it is finished (for probe "
            "--series). Default: 2 until then.",
        ),
    ] = None,
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
    """Train a design against a parameter-equivalent MoE, two placebos and its base.

    Verdicts are better, worse, equivalent or undecided, by paired differences over seeds. A run
    that cannot conclude says so: fewer than 3 seeds, fewer than 20 tokens per active parameter, or
    comparisons that stay undecided. With --out, the same command takes up finished runs and
    resumes the one that was cut short, to the last bit. torchrun -m ngscale train-small ... trains
    on several processes, each of which holds its share of the tables.

    Example: ngscale train-small --hours 0.15 --out report
    """
    if schedule not in _SCHEDULES:
        raise UsageError(f"--schedule {schedule}: takes {', '.join(_SCHEDULES)}")
    num_seeds = None if seeds == "auto" else parse_whole(seeds, _MOST_SEEDS)
    if num_seeds == 0:
        raise UsageError(f"--seeds {seeds}: takes a number from 1 to {_MOST_SEEDS:,}, or auto")
    if not 0 < margin < math.inf:
        raise UsageError(f"--margin {margin}: takes a positive number of nats")
    wait_asleep()
    with torch_extra():
        from ngscale.model.device import pick_device
        from ngscale.train_small.candidates import read_target, shrink_to
        from ngscale.train_small.cells import CellStore
        from ngscale.train_small.config import TRAINING
        from ngscale.train_small.distributed import is_first
        from ngscale.train_small.plan import plan_report
        from ngscale.train_small.run import Request, plan_job, planned, run_job
        from ngscale.train_small.summary import build_report
    from ngscale.console import say
    from ngscale.corpus import default_sources
    from ngscale.tokens import is_bin

    most_active = None if proxy is None else parse_count(proxy)
    found = read_target(target, shrink_to(pick_device(device).type, most_active))
    for clause in found.left_out:
        say(f"left out: {clause}")
    for candidate in found.candidates:
        if candidate.shrunk is not None:
            lost = " ".join(candidate.shrunk["lost"])
            what = candidate.name or "the design"
            say(f"{what} is too big: its proxy is trained. Lost: {lost}")
    is_ids = is_bin(corpus or default_sources())
    stream, source = read_source(
        corpus,
        tokenizer or found.tokenizer,
        text_field=text_field,
        split=split,
        dtype=dtype,
        vocab_size=found.candidates[0].design.model.vocab_size if is_ids else None,
        on_bad_record=on_bad_record,
    )
    request = Request(
        candidates=found.candidates,
        stream=stream,
        source=source,
        num_seeds=num_seeds,
        hours=hours,
        tokens=tokens,
        device=device,
        extra_arms=tuple(arm or ()),
        margin=margin,
        training=replace(
            TRAINING,
            accumulation=accumulation,
            schedule=cast("Literal['wsd', 'cosine']", schedule),
        ),
        compiled=compiled,
        track=track,
    )
    store = CellStore(
        None if dry_run else out,
        checkpoint_every=checkpoint_every,
        keep_checkpoints=keep_checkpoints or 2,
        keep_finished=keep_checkpoints is not None,
    )
    job = plan_job(request, store)
    if dry_run:
        plan = planned(job)
        if is_first():
            answer(plan, plan_report(plan), as_json=as_json, out=None)
        return
    record, speeds = run_job(job)
    if is_first():
        answer(
            record,
            build_report(record),
            as_json=as_json,
            out=out,
            measured={"tokens_per_s": speeds},
        )
