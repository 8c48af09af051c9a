"""The terminal: the answer on stdout, the story on stderr. The only rich."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ngscale.records import Report, Table

_MAX_ROWS_SHOWN = 24


class Advance(Protocol):
    """What a long loop calls after each finished piece."""

    def __call__(self, steps: int = 1, /) -> None:
        """``steps`` more pieces are done."""


def show(report: Report) -> None:
    """Print the answer, then the report's tables, on stdout."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(report.answer, style="bold"), soft_wrap=True)
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
        title=Text(table.title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        drawn.add_column(Text(column.title), justify="left" if index == 0 else "right")
    for row in table.rows[:_MAX_ROWS_SHOWN]:
        drawn.add_row(*(Text(column.cell(row)) for column in table.columns))
    return drawn


def say(message: str) -> None:
    """One line of the story, on stderr."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """A bar with rate and ETA on a terminal; one plain line where stderr is not one."""
    if not sys.stderr.isatty():
        say(f"{title} ({total:,})")

        def ignore(steps: int = 1, /) -> None:
            """Nothing to draw."""

        yield ignore
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total)

        def advance(steps: int = 1, /) -> None:
            bars.advance(task, steps)

        yield advance
