"""Hit rate: the share of a table's rows that has been read after so many sequences.

arXiv:2601.21204 Fig. 3a, for an n-gram vocabulary of 30 x V0. Sequences are consecutive windows of
the corpus; no n-gram crosses a document boundary or a window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt32

from ngscale.collisions.threads import Done
from ngscale.errors import UsageError
from ngscale.hashing.byte_hashes import Ideal
from ngscale.hashing.scheme import Scheme
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table
from ngscale.tokens import TokenStream

NUM_POINTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class HitRate:
    """One point of the curve."""

    order: int
    sequences: int
    touched: int
    """Rows read at least once so far."""
    touched_ideal: int
    """The same under one draw of the ideal hash (key 0)."""


def hit_rates(
    stream: TokenStream,
    scheme: Scheme,
    *,
    orders: Sequence[int],
    table_rows: int,
    length: int,
    done: Done,
) -> list[HitRate]:
    """The curve of every order, at about 60 points evenly spaced in sequences.

    Raises:
        UsageError: the corpus is shorter than one sequence.
    """
    num_sequences = stream.num_tokens // length
    if num_sequences == 0:
        raise UsageError(f"the corpus has {stream.num_tokens:,} tokens, less than one sequence")
    checkpoints = np.unique(np.linspace(0, num_sequences, NUM_POINTS + 1).astype(np.int64))[1:]
    return [
        point
        for order in orders
        for point in _curve(stream, scheme, order, table_rows, length, checkpoints.tolist(), done)
    ]


def _curve(
    stream: TokenStream,
    scheme: Scheme,
    order: int,
    table_rows: int,
    length: int,
    checkpoints: Sequence[int],
    done: Done,
) -> list[HitRate]:
    from ngscale.kernels.occupancy import touch_rows

    marks = [np.zeros(table_rows, dtype=np.uint8) for _ in range(2)]
    touched = [0, 0]
    points, read = [], 0
    for checkpoint in checkpoints:
        grams = _grams(stream, order, read * length, checkpoint * length, length)
        for i, hashing in enumerate((scheme, Ideal(seed=0))):
            touched[i] += int(touch_rows(hashing.rows(grams, table_rows), marks[i]))
        read = checkpoint
        points.append(
            HitRate(order=order, sequences=read, touched=touched[0], touched_ideal=touched[1])
        )
        done(1)
    return points


def _grams(
    stream: TokenStream, order: int, start: int, stop: int, length: int
) -> UInt32[np.ndarray, "order G"]:
    """Every n-gram, repeats included, whose tokens lie in one window and one document."""
    tokens = np.asarray(stream.tokens[start:stop])
    ends = np.arange(order - 1, stop - start)
    first = np.searchsorted(stream.doc_starts, start + ends, side="right") - 1
    in_document = start + ends - stream.doc_starts[first] >= order - 1
    in_window = ends % length >= order - 1
    ends = ends[in_document & in_window]
    return np.stack([tokens[ends - back] for back in range(order)])


def build(points: Sequence[HitRate], table_rows: int, inputs: Mapping[str, Any]) -> RunRecord:
    """The record: the curve, and where it ends."""
    last = [point for point in points if point.sequences == max(p.sequences for p in points)]
    shares = ", ".join(f"{p.touched / table_rows:.3f} for order {p.order}" for p in last)
    answer = (
        f"After {last[0].sequences:,} sequences of {inputs['sequence_length']:,} tokens the share "
        f"of {table_rows:,} rows read at least once is {shares}."
    )
    curve = [
        {
            "order": point.order,
            "sequences": point.sequences,
            "hit_rate": point.touched / table_rows,
            "hit_rate_ideal": point.touched_ideal / table_rows,
        }
        for point in points
    ]
    results = {"table_rows": table_rows, "hit_rates": curve}
    return RunRecord(verb="collisions", answer=answer, inputs=inputs, results=results)


def build_report(record: RunRecord) -> Report:
    """The curve as a figure and as data."""
    rows = record.results["hit_rates"]
    orders = sorted({row["order"] for row in rows})
    series = []
    for order in orders:
        drawn = [row for row in rows if row["order"] == order]
        x = [row["sequences"] for row in drawn]
        series.append(Series(label=f"{order}-grams", x=x, y=[r["hit_rate"] for r in drawn]))
        ideal = [row["hit_rate_ideal"] for row in drawn]
        series.append(Series(label=f"{order}-grams, ideal hash", x=x, y=ideal, style="dashed"))
    panel = Panel(
        title=f"{record.results['table_rows']:,} rows",
        x_label="sequences read",
        y_label="share of rows read at least once",
        series=tuple(series),
    )
    columns = (
        Column(key="order", title="n", spec="d"),
        Column(key="sequences", title="sequences", spec=",d"),
        Column(key="hit_rate", title="hit rate", spec=".4f"),
        Column(key="hit_rate_ideal", title="ideal", spec=".4f"),
    )
    last = max(row["sequences"] for row in rows)
    final = [row for row in rows if row["sequences"] == last]
    figure = Figure(
        name="hit_rate",
        caption="Share of a table's rows read at least once, against sequences read; dashed: one "
        "draw of an ideal hash.",
        panels=(panel,),
    )
    section = Section(
        heading="Hit rate",
        paragraphs=(
            "Definition of arXiv:2601.21204 Fig. 3a: entries of the n-gram vocabulary activated at "
            "least once. Sequences are consecutive windows of the corpus.",
        ),
        figures=(figure,),
        tables=(
            Table(name="final", title="At the end", columns=columns, rows=final),
            Table(name="hit_rates", title="Curve", columns=columns, rows=rows, terminal=False),
        ),
    )
    return Report(title="Hit rate of n-gram tables", answer=record.answer, sections=(section,))
