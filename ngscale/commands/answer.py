"""How every verb answers: the shared options, and record + report -> stdout and ``--out``."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ngscale.corpus import OnBadRecord
from ngscale.errors import MissingExtraError, UsageError
from ngscale.records import Report, RunRecord, dump_json, environment

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write the report (README.md, report.html, record.json, data, figures) here.",
    ),
]
CorpusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        metavar="SOURCE",
        help="Text: a .txt, .jsonl or .parquet file (also .gz, .zst), a directory or glob of them, "
        "a .bin of token ids, hf://owner/name, or a corpus that `ngscale corpora build` made. "
        "Repeat for several. Default: two embedded novels.",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="A tokenizer.json, tekken.json or .tiktoken file, a directory that holds one, "
        "hf://owner/name, or a name (bpe-32768, bpe-4096; tekken once built).",
    ),
]
TextFieldOption = Annotated[
    str, typer.Option(metavar="NAME", help="Key or column of the text (jsonl, parquet, hf://).")
]
SplitOption = Annotated[str, typer.Option(metavar="NAME", help="Split of an hf:// data set.")]
HbmOption = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of one device (80G).")]
GpusOption = Annotated[int, typer.Option(metavar="N", min=1, help="Devices with --hbm.")]
HostMemoryOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Host memory that tables may be kept in (1T)."),
]
DtypeOption = Annotated[
    str, typer.Option(metavar="TYPE", help="Type of the ids in a .bin: uint16 or uint32.")
]
OnBadRecordOption = Annotated[
    OnBadRecord,
    typer.Option(
        "--on-bad-record",
        help="A record that is not UTF-8, not JSON or has no text: an error, left out, or with "
        "U+FFFD for its bad bytes. The record counts them.",
    ),
]


def finite(parameter: typer.CallbackParam, value: float | None) -> float | None:
    """Callback of a number's option: a range alone lets NaN and infinity pass."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{parameter.opts[0]} {value}: takes a finite number")
    return value


_TRAINING_DEVICES = ("auto", "cpu", "cuda")


def _training_device(name: str) -> str:
    if name not in _TRAINING_DEVICES:
        raise UsageError(f"--device {name}: takes {', '.join(_TRAINING_DEVICES)}")
    return name


TrainingDeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="auto, cpu or cuda.", callback=_training_device),
]


@contextmanager
def torch_extra() -> Iterator[None]:
    """Around imports of what needs the extra ``torch``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("torch", "safetensors"):
            raise MissingExtraError(package, "torch") from error
        raise


def starting(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Shell completion of an argument that is one of ``names``, listed only when asked for."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def answer(
    record: RunRecord,
    report: Report,
    *,
    as_json: bool,
    out: Path | None,
    measured: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Show a finished run: stdout is the answer (or the one JSON document), files go to ``out``.

    ``measured`` is what this machine made of it, such as tokens/s: no part of the record.
    """
    from ngscale.console import say, show
    from ngscale.report import can_draw, write_report

    made = {**environment(sys.argv[1:]), **(measured or {})}
    if out is not None:  # first the files, so that a closed stdout (`| head`) loses nothing
        page = write_report(report, record, made, out)
        if report.figures and not can_draw():
            say("no figures: matplotlib is not installed; run: pip install 'ngscale[report]'")
        say(f"report: {page}")
    if as_json:
        sys.stdout.write(dump_json({**record.document(), "environment": made}))
    else:
        show(report)
    sys.stdout.flush()
