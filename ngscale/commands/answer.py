"""How every verb answers: the shared options, and record + report -> stdout and ``--out``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

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
        help="Text: a .txt, .jsonl or .parquet file, a directory or glob of them, a .bin of "
        "token ids, or hf://owner/name. Repeat for several. Default: two embedded novels.",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="A tokenizer.json, a directory that holds one, or the name of an embedded one "
        "(bpe-32768, bpe-4096).",
    ),
]


def answer(record: RunRecord, report: Report, *, as_json: bool, out: Path | None) -> None:
    """Show a finished run: stdout is the answer (or the one JSON document), files go to ``out``."""
    from ngscale.console import say, show
    from ngscale.report import can_draw, write_report

    made = environment(sys.argv[1:])
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
