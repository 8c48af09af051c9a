"""``ngscale budget``."""

from pathlib import Path
from typing import Annotated

import typer

from ngscale import presets
from ngscale.commands.answer import (
    GpusOption,
    HbmOption,
    HostMemoryOption,
    JsonOption,
    OutOption,
    answer,
    finite,
    starting,
)
from ngscale.errors import InputError, UsageError
from ngscale.params import Dtype
from ngscale.proxy_size import PROXY_LAYERS, PROXY_VOCAB, ProxySize
from ngscale.safetensors_header import TensorHeader, inside, read_headers

_complete = starting(presets.names)


def budget(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help=f"A preset ({', '.join(presets.names())}), a config.json, or a directory that "
            "holds one.",
            autocompletion=_complete,
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="A directory of safetensors, one such file or hf://owner/name: the headers are "
            "compared with the TARGET, by default the config.json beside them.",
        ),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="What weights are stored as.")] = "bf16",
    context: Annotated[
        int, typer.Option(metavar="TOKENS", min=1, help="Tokens of a sequence.")
    ] = 8192,
    batch: Annotated[
        int, typer.Option(metavar="SEQUENCES", min=1, help="Sequences at a time.")
    ] = 1,
    kv_dtype: Annotated[Dtype, typer.Option(help="What caches are kept as.")] = "bf16",
    tp: Annotated[int, typer.Option(metavar="N", min=1, help="Tensor parallel ranks.")] = 1,
    ep: Annotated[int, typer.Option(metavar="N", min=1, help="Expert parallel ranks.")] = 1,
    pp: Annotated[int, typer.Option(metavar="N", min=1, help="Pipeline stages.")] = 1,
    dp: Annotated[int, typer.Option(metavar="N", min=1, help="Data parallel copies.")] = 1,
    table_shards: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Ranks that the tables' rows are split over. Default: --tp."
        ),
    ] = None,
    window_us: Annotated[
        float | None,
        typer.Option(
            metavar="US",
            min=0,
            callback=finite,
            help="Microseconds between knowing a batch's tokens and needing its rows: tells the "
            "largest batch whose reads are hidden.",
        ),
    ] = None,
    total: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Find designs of P parameters (68.5B): experts traded for tables, and which no "
            "other dominates. Default with --active, --hbm or --host-memory: the target's own.",
        ),
    ] = None,
    active: Annotated[
        str | None,
        typer.Option(
            metavar="P", help="Active parameters of those designs. Default: the target's own."
        ),
    ] = None,
    hbm: HbmOption = None,
    gpus: GpusOption = 1,
    host_memory: HostMemoryOption = None,
    training_tokens: Annotated[
        str | None,
        typer.Option(metavar="T", help="Tokens of training (300B), which laws and rules ask for."),
    ] = None,
    evidence: Annotated[
        str,
        typer.Option(metavar="NAME", help="Source of the predicted loss: qwen, engram, longcat."),
    ] = "qwen",
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Add your own train-small records to the allocation curve."
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Also make a proxy of P active parameters (2M) for train-small, its equivalent "
            "MoE and its placebo.",
        ),
    ] = None,
    proxy_vocab: Annotated[
        int, typer.Option(metavar="V0", min=256, help="Base vocabulary of --proxy.")
    ] = PROXY_VOCAB,
    proxy_layers: Annotated[
        int, typer.Option(metavar="L", min=1, help="Layers of --proxy.")
    ] = PROXY_LAYERS,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how every cost is computed, line by line.")
    ] = False,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Count a design's parameters, bytes, FLOPs and table reads; trade its experts for tables.

    Example: ngscale budget longcat-flash-lite --total 100B --host-memory 1T
    """
    import hashlib

    from ngscale.budget import Ranks, Workload, build, report
    from ngscale.budget.limits import Limits
    from ngscale.budget.training_records import read_training_records
    from ngscale.design import read_design
    from ngscale.params import total_parameters
    from ngscale.units import parse_bytes, parse_count

    config, tensors = None, None
    if checkpoint is not None:
        config, tensors = _read_checkpoint(checkpoint)
    if target is not None:
        path = presets.resolve(target)
    elif checkpoint is not None and config is not None:
        path, target = config, checkpoint
    else:
        raise UsageError("a TARGET is needed, or a --checkpoint with a config.json beside it")
    design = read_design(path)
    limits = None
    if total or active or hbm or host_memory:
        limits = Limits(
            total_parameters=parse_count(total) if total else total_parameters(design),
            active_parameters=parse_count(active) if active else None,
            hbm_bytes=gpus * parse_bytes(hbm) if hbm else None,
            host_bytes=parse_bytes(host_memory) if host_memory else None,
            dtype=dtype,
            context_tokens=context,
            num_sequences=batch,
            cache_dtype=kv_dtype,
            training_tokens=parse_count(training_tokens) if training_tokens else None,
            source=evidence,
        )
    small = None
    if proxy is not None:
        small = ProxySize(
            active_parameters=parse_count(proxy), vocab_size=proxy_vocab, num_layers=proxy_layers
        )
    record = build(
        design,
        target=presets.title(target),
        config_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        dtype=dtype,
        workload=Workload(
            context_tokens=context,
            num_sequences=batch,
            cache_dtype=kv_dtype,
            ranks=Ranks(tp=tp, ep=ep, pp=pp, dp=dp, table_shards=table_shards),
            window_us=window_us,
        ),
        tensors=tensors,
        limits=limits,
        trained=None if records is None else read_training_records(records),
        small=small,
        explain=explain,
    )
    answer(record, report(record), as_json=as_json, out=out)


def _read_checkpoint(source: str) -> tuple[Path | None, dict[str, TensorHeader]]:
    """The config.json beside a checkpoint's weights, and their headers."""
    if source.startswith("hf://"):
        from ngscale import hub

        return hub.read_model(source)
    path = Path(source)
    config = inside(path, "config.json") if path.is_dir() else None
    if config is not None and not config.is_file():
        raise InputError(f"{path}: the directory holds no config.json")
    return config, read_headers(path)
