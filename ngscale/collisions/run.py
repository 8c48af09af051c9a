"""Plan -> record: count the n-grams, measure every size, say what it means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ngscale.collisions import hit_rate, outcome, sweep
from ngscale.collisions.adaptive import sweep_adaptively
from ngscale.collisions.expected import IdealHash
from ngscale.collisions.occupancy import sharing
from ngscale.collisions.peaks import Saving, saving, stands_out
from ngscale.collisions.planning import Plan
from ngscale.collisions.resumable import Keep, resumable_sharing
from ngscale.collisions.sequences import draw_sequences, sequence_ngrams
from ngscale.collisions.subtables import Subtables, measure_subtables
from ngscale.collisions.survey import DATA, columns, survey
from ngscale.collisions.sweep import Point, SharingSweep
from ngscale.collisions.threads import Progress
from ngscale.errors import UsageError
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.records import RunRecord
from ngscale.tokens import TokenStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How n-grams are counted, see ``ngrams.count_ngrams``."""

    cross_documents: bool = False
    max_memory_bytes: int | None = None
    directory: Path | None = None
    prepare: Callable[[TokenStream, Sequence[int]], object] | None = None
    """Fills the directory beforehand, by other machines."""


def run(
    stream: TokenStream,
    plan: Plan,
    counting: Counting,
    inputs: Mapping[str, Any],
    progress: Progress,
    keep: Keep | None = None,
) -> RunRecord:
    """Carry out ``plan`` on ``stream``; ``inputs`` says where the stream came from.

    With ``keep`` a long sweep goes on where a killed one stopped.

    Raises:
        SpecError: a size the scheme cannot hash exactly.
        ResourceError: a size or a count that does not fit in memory.
        UsageError: the corpus is too short for an order or for the sequences.
    """
    _check(plan, stream.vocab_size)
    if plan.sequences is None:
        tables = count_tables(stream, sorted(plan.sizes), counting)
        return run_tables(tables, stream.vocab_size, plan, inputs, progress, keep)
    inputs = {**inputs, **plan.describe(stream.vocab_size)}
    windows = draw_sequences(stream, plan.sequences.number, plan.sequences.length)
    grams = {found.order: found for found in sequence_ngrams(windows, sorted(plan.sizes))}
    with progress("tables", plan.num_tables) as done:
        points = sweep.run_sequences(grams, plan.sizes, plan.scheme, done)
    return outcome.build(points, inputs)


def count_tables(
    stream: TokenStream, orders: Sequence[int], counting: Counting
) -> dict[int, NgramTable]:
    """The corpus's n-grams of every order.

    Raises:
        UsageError: the corpus is too short for one of them.
    """
    if counting.prepare is not None:
        counting.prepare(stream, orders)
    tables = count_ngrams(
        stream,
        orders=orders,
        cross_documents=counting.cross_documents,
        max_memory_bytes=counting.max_memory_bytes,
        directory=counting.directory,
    )
    if missing := sorted(set(orders) - set(tables)):
        raise UsageError(f"the corpus has no {missing[0]}-gram; lower --orders")
    return tables


def run_tables(
    tables: Mapping[int, NgramTable],
    vocab_size: int,
    plan: Plan,
    inputs: Mapping[str, Any],
    progress: Progress,
    keep: Keep | None = None,
) -> RunRecord:
    """Carry out ``plan``, by the pooled rule, on n-grams that are counted already."""
    _check(plan, vocab_size)
    inputs = {**inputs, **plan.describe(vocab_size)}
    if plan.metrics != "all":
        return _run_sharing(tables, plan, inputs, progress, keep)
    with progress("tables", plan.num_tables) as done:
        points = sweep.run(tables, plan.sizes, plan.scheme, done)
        joint = _joint(tables, plan)
    return outcome.build(points, inputs, saving=_saving(points, tables, plan), joint=joint)


def _run_sharing(
    tables: Mapping[int, NgramTable],
    plan: Plan,
    inputs: Mapping[str, Any],
    progress: Progress,
    keep: Keep | None,
) -> RunRecord:
    """The same without what needs every row's traffic; a long sweep is surveyed."""
    told = None
    if plan.adaptive:
        adapted = [
            sweep_adaptively(tables[order], plan.base, sizes, plan.requested, progress)
            for order, sizes in sorted(plan.sizes.items())
        ]
        swept, told = [found.swept for found in adapted], [found.told for found in adapted]
    else:
        swept = _swept(tables, plan, progress, keep if plan.is_long else None)
    joint = _joint(tables, plan)
    if not plan.is_long:
        points = [point for of_order in swept for point in of_order.points()]
        return outcome.build(points, inputs, joint=joint)
    surveys = [
        survey(of_order, plan.base, inputs["unit"], plan.requested)
        for of_order in swept
        if of_order.distinct > 1
    ]
    if not surveys:
        raise UsageError("the corpus has no two n-grams that could share a row; give it more text")
    points = [point for of_order in surveys for point in of_order.points]
    if plan.metrics == "occupied":
        points = _with_company(points, tables, plan.base)
    record = outcome.build(points, inputs, joint=joint, surveys=surveys, adaptive=told)
    return replace(record, columns={DATA: columns(swept)})


def _swept(
    tables: Mapping[int, NgramTable], plan: Plan, progress: Progress, keep: Keep | None
) -> list[SharingSweep]:
    shared = plan.metrics == "sharing"
    if keep is None:
        with progress("tables", plan.num_tables) as done:
            return sweep.run_sharing(tables, plan.sizes, plan.base, done, shared=shared)
    return [
        sweep.as_sweep(
            tables[order],
            sizes,
            resumable_sharing(
                tables[order], plan.base, sizes, shared=shared, keep=keep, progress=progress
            ),
        )
        for order, sizes in sorted(plan.sizes.items())
    ]


def _with_company(
    points: Sequence[Point], tables: Mapping[int, NgramTable], base: int
) -> list[Point]:
    """The listed sizes once more, with what shares a row there."""
    found = []
    for order, table in sorted(tables.items()):
        listed = [point for point in points if point.order == order]
        sizes = [point.table_rows for point in listed]
        again = sweep.as_sweep(table, sizes, sharing(table, base, sizes)).points()
        for point, full in zip(listed, again, strict=True):
            assert point.measured.occupied == full.measured.occupied, "two kernels disagree"
            found.append(full)
    return found


def _check(plan: Plan, vocab_size: int) -> None:
    every_size = [rows for sizes in plan.sizes.values() for rows in sizes]
    sweep.check_sizes(plan.scheme, every_size, vocab_size=vocab_size, max_order=max(plan.sizes))


def _joint(tables: Mapping[int, NgramTable], plan: Plan) -> list[Subtables]:
    """Every order's sub-tables together, where they are sub-tables and there are several."""
    if not plan.together:
        return []
    return [
        measure_subtables(tables[order], plan.scheme, sizes)
        for order, sizes in sorted(plan.sizes.items())
        if len(sizes) > 1
    ]


def run_hit_rate(
    stream: TokenStream,
    scheme: Scheme,
    orders: Sequence[int],
    table_rows: int,
    length: int,
    inputs: Mapping[str, Any],
    progress: Progress,
) -> RunRecord:
    """The share of ``table_rows`` rows read against sequences of ``length`` tokens.

    Raises:
        SpecError: a size the scheme cannot hash exactly.
        UsageError: the corpus is shorter than one sequence.
    """
    scheme.check(vocab_size=stream.vocab_size, table_rows=table_rows, max_order=max(orders))
    with progress("points", hit_rate.NUM_POINTS * len(orders)) as done:
        points = hit_rate.hit_rates(
            stream, scheme, orders=orders, table_rows=table_rows, length=length, done=done
        )
    described = {"scheme": scheme.describe(), "sequence_length": length}
    return hit_rate.build(points, table_rows, {**inputs, **described})


def _saving(points: Sequence[Point], tables: Mapping[int, NgramTable], plan: Plan) -> Saving | None:
    """For the worst size of the lowest order, where one stands out."""
    order = min(plan.sizes)
    worst = max(
        (point for point in points if point.order == order),
        key=lambda point: point.impurity_excess or 0.0,
    )
    if not stands_out(worst):
        return None
    ideal = IdealHash(tables[order], [])  # purity alone: nothing to simulate
    return saving(worst, tables[order], plan.scheme, ideal, plan.base)
