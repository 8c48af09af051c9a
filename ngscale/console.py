"""The terminal: the answer on stdout, the story on stderr. The only rich."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from ngscale.printable import printable
from ngscale.records import Report, Table

_MAX_ROWS_SHOWN = 24
_LOG_WIDTH = 140
"""Columns where stdout is no terminal: nothing is cut there."""
_PLAIN_EVERY_S = 15.0


class Advance(Protocol):
    """What a long loop calls after each finished piece."""

    def __call__(self, steps: int = 1, /) -> None:
        """``steps`` more pieces are done."""


def show(report: Report) -> None:
    """Print the answer, then the report's tables, on stdout."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit with 1

    width = None if sys.stdout.isatty() else _LOG_WIDTH
    console = Plain(highlight=False, width=width)
    console.print(Text(printable(report.answer), style="bold"), soft_wrap=True)
    for table in report.tables:
        if table.terminal:
            console.print()
            console.print(_table(table))
            if len(table.rows) > _MAX_ROWS_SHOWN:
                console.print(f"... {len(table.rows) - _MAX_ROWS_SHOWN} more rows with --out DIR")


def _table(table: Table) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(printable(table.title)),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        drawn.add_column(
            Text(printable(column.title)),
            justify="left" if index == 0 else "right",
            overflow="fold",
        )
    for row in table.rows[:_MAX_ROWS_SHOWN]:
        drawn.add_row(*(Text(printable(column.cell(row))) for column in table.columns))
    return drawn


def say(message: str) -> None:
    """One line of the story, on stderr."""
    print(printable(message), file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int, *, unit: Literal["", "B"] = "") -> Iterator[Advance]:
    """A bar with rate and ETA on a terminal; else plain lines at times.

    With the unit "B" steps are bytes, shown as megabytes. A total of 0 is one nobody knows.
    """
    if not sys.stderr.isatty():
        yield _plain_progress(title, total, unit)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counts: list[ProgressColumn] = [MofNCompleteColumn()]
    if unit == "B":
        counts = [DownloadColumn(), TransferSpeedColumn()]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *counts,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total or None)

        def advance(steps: int = 1, /) -> None:
            bars.advance(task, steps)

        yield advance


def _plain_progress(title: str, total: int, unit: Literal["", "B"]) -> Advance:
    """What a log gets: the title at the first step, then share, rate and ETA at intervals."""
    of = f"{total / 1e6:,.1f} MB" if unit else f"{total:,}"
    started = shown = time.monotonic()
    done = 0

    def advance(steps: int = 1, /) -> None:
        nonlocal done, shown
        if not done:
            say(f"{title} ({of})" if total else title)
        done += steps
        now = time.monotonic()
        if now - shown < _PLAIN_EVERY_S:
            return
        shown = now
        rate = done / (now - started)
        speed = f"{rate / 1e6:,.1f} MB/s" if unit else f"{rate:,.1f}/s"
        left = f", {max(total - done, 0) / rate:,.0f} s left" if total and rate else ""
        share = f"{done / total:.0%}, " if total else ""
        say(f"{title}: {share}{speed}{left}")

    return advance
