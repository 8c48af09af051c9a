"""One count as many tasks that share a directory and nothing else: the same bytes as alone.

count   the r-th task: the n-grams that begin in the r-th part of the corpus, as sorted tables
merge   every N-th range of n-grams of those tables, merged
join    an order each: its merged ranges, one after another, as the finished table

``DIR/plan.json`` says what is counted, ``DIR/shards/`` holds the parts' tables, and
``DIR/ngrams-<key>`` is the run directory that ``count_ngrams`` opens in the end. Everything is
written beside its place and renamed: what stands there is finished, a relaunch does the rest.
"""

import json
import shutil
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt32
from numpy.typing import NDArray

from ngscale.errors import InputError, UsageError
from ngscale.kernels.merge import merge_tables
from ngscale.ngram_buckets import even_spans
from ngscale.ngram_runs import NgramRun, run_of
from ngscale.ngrams import count_ngrams
from ngscale.resident import AROUND_BYTES, let_go
from ngscale.tokens import TokenStream
from ngscale.whole_files import replacing

Stage = Literal["count", "merge", "join"]
STAGES: tuple[Stage, ...] = ("count", "merge", "join")
"""Each needs all of the one before it."""
_FORMAT = 2
_RANGE_GRAMS = 2**24
"""N-grams merged at a time where memory is not limited."""
_SAMPLES = 4
"""To a range, of every part: more make ranges fuller and take longer to read."""

Table = tuple[UInt32[np.ndarray, "order G"], Int64[np.ndarray, " G"]]
"""Sorted n-grams and their counts, as ``NgramRun.load`` gives them."""
Key = tuple[int, ...]
"""An n-gram, oldest token first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a directory's tasks count."""

    stream_sha256: str
    vocab_size: int
    """V0."""
    orders: tuple[int, ...]
    cross_documents: bool
    num_tasks: int
    """Parts of the corpus, and tasks that merge them."""
    max_memory_bytes: int | None
    """Of each task."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClusterRun:
    """A directory, its plan and the stream that it is about."""

    directory: Path
    plan: Plan
    stream: TokenStream

    def num_tasks(self, stage: Stage) -> int:
        """Tasks of a stage."""
        return len(self.plan.orders) if stage == "join" else self.plan.num_tasks

    def missing(self, stage: Stage) -> list[int]:
        """Tasks of a stage that are not finished; all of the stage before it are."""
        final, orders = self._final(), self.plan.orders
        joined = [final.load(order) is not None for order in orders]
        if stage == "join":
            return [rank for rank, done in enumerate(joined) if not done]
        if all(joined):
            return []
        ranks = range(self.plan.num_tasks)
        if stage == "count":
            return [r for r in ranks if any(self._shard(r).load(o) is None for o in orders)]
        return [rank for rank, ranges in enumerate(self._unmerged(self._cuts())) if ranges]

    def run_task(self, stage: Stage, rank: int, *, threads: int = 1) -> None:
        """Do what is not finished of a task.

        Raises:
            ResourceError: the disk is full, the limit too small, or another process does it.
            InputError: the directory cannot be written, or an earlier stage is not finished.
        """
        if stage == "count":
            count_ngrams(
                self.stream,
                orders=self.plan.orders,
                cross_documents=self.plan.cross_documents,
                max_memory_bytes=self.plan.max_memory_bytes,
                directory=self.directory / "shards",
                threads=threads,
                positions=self._positions(rank),
            )
        elif stage == "merge":
            self._merge(rank)
        else:
            if unmerged := self.missing("merge"):
                raise self._unfinished("merge", unmerged[0])
            order = self.plan.orders[rank]
            number = len(self._cuts()[order]) + 1
            self._final(order).join(order, [(at, at + 1) for at in range(number)])

    def _merge(self, rank: int) -> None:
        cuts = self._cuts()
        for order, at in self._unmerged(cuts)[rank]:
            merged = merge([_between(table, cuts[order], at) for table in self._tables(order)])
            with self._final(order).new_part(at, at + 1, {order: len(merged[1])}) as writer:
                writer.put(0, *merged)
            del merged  # not while the next range is merged

    def _unmerged(self, cuts: Mapping[int, Sequence[Key]]) -> list[list[tuple[int, int]]]:
        """Per task, the (order, range) that it has yet to merge."""
        ranges = [(order, at) for order, ends in cuts.items() for at in range(len(ends) + 1)]
        parts = {order: self._final(order).parts() for order in cuts}
        return [
            [
                (order, at)
                for order, at in ranges[rank :: self.plan.num_tasks]
                if at not in parts[order]
            ]
            for rank in range(self.plan.num_tasks)
        ]

    def clear(self) -> None:
        """Drop what the finished tables were made of."""
        for order in self.plan.orders:
            self._final(order).finish()
        shutil.rmtree(self.directory / "shards", ignore_errors=True)

    def _unfinished(self, stage: Stage, rank: int) -> InputError:
        return InputError(f"{self.directory}: {stage} task {rank} has not finished; run it first")

    def _positions(self, rank: int) -> tuple[int, int]:
        return even_spans((0, self.stream.num_tokens), self.plan.num_tasks)[rank]

    def _shard(self, rank: int) -> NgramRun:
        return run_of(
            self.directory / "shards",
            self.stream,
            self.plan.orders,
            cross_documents=self.plan.cross_documents,
            positions=self._positions(rank),
        )

    def _final(self, *orders: int) -> NgramRun:
        """The finished tables, and the merged ranges of ``orders``."""
        crossing = self.plan.cross_documents
        return run_of(self.directory, self.stream, orders, cross_documents=crossing)

    def _tables(self, order: int) -> list[Table]:
        tables = []
        for rank in range(self.plan.num_tasks):
            table = self._shard(rank).load(order)
            if table is None:
                raise self._unfinished("count", rank)
            tables.append(table)
        return tables

    def _cuts(self) -> dict[int, list[Key]]:
        """Per order, the last n-gram of every range but the last. Merging a range takes its n-grams
        twice, and what lies around those of two parts.
        """
        cuts = {}
        limit = self.plan.max_memory_bytes
        for order in self.plan.orders:
            grams = _RANGE_GRAMS
            if limit is not None:
                around = 2 * (order + 1) * AROUND_BYTES
                grams = max(limit - around, limit // 4) // (2 * (4 * order + 8))
            cuts[order] = range_ends([tokens for tokens, _ in self._tables(order)], grams)
        return cuts


def range_ends(tables: Sequence[UInt32[np.ndarray, "order G"]], grams: int) -> list[Key]:
    """N-grams that part sorted tables into ranges of at most ``grams``, counted in all tables.

    Every S-th n-gram of a table is a sample, and every q-th sample ends a range. That has q
    samples and those equal to the last, at most one of each of N tables, and fewer than S n-grams
    of each table besides: at most (q + 2 * N) * S. ``grams`` below 2 * N + 1 cannot be kept.
    """
    step = max(1, grams // (_SAMPLES * len(tables)))
    every = max(1, grams // step - 2 * len(tables))
    samples = sorted(
        _gram(tokens, i) for tokens in tables for i in range(step - 1, tokens.shape[1], step)
    )
    return sorted(set(samples[every - 1 :: every]))


def _gram(tokens: UInt32[np.ndarray, "order G"], i: int) -> Key:
    """One n-gram of a mapped table, of which nothing stays in memory."""
    found = tuple(tokens[::-1, i].tolist())
    let_go(tokens)
    return found


def _between(table: Table, cuts: Sequence[Key], at: int) -> Table:
    """A table's n-grams of a range."""
    tokens, counts = table

    def after(cut: Key) -> int:
        return bisect_right(range(len(counts)), cut, key=lambda i: _gram(tokens, i))

    low = after(cuts[at - 1]) if at else 0
    high = after(cuts[at]) if at < len(cuts) else len(counts)
    return tokens[:, low:high], counts[low:high]


def merge(tables: Sequence[Table]) -> Table:
    """One sorted table of several, two by two."""
    while len(tables) > 1:
        pairs = zip(tables[::2], tables[1::2], strict=False)
        tables = [*(_merge_two(*pair) for pair in pairs), *tables[len(tables) // 2 * 2 :]]
    return tables[0]


def _merge_two(left: Table, right: Table) -> Table:
    room = len(left[1]) + len(right[1])
    tokens = np.empty((len(left[0]), room), np.uint32)
    counts = np.empty(room, np.int64)
    size = merge_tables(left[0], left[1], right[0], right[1], tokens, counts)
    for mapped in (*left, *right):
        let_go(mapped)
    return tokens[:, :size], counts[:size]


def make_run(directory: Path, stream: TokenStream, plan: Plan) -> ClusterRun:
    """Make ``directory`` the one of this plan; a stream that is in no file is written there.

    Raises:
        UsageError: it belongs to another plan.
        InputError: its plan cannot be read, or it cannot be written.
        ResourceError: the disk is full.
    """
    path = directory / "plan.json"
    mine = {"format": _FORMAT, **asdict(plan), "orders": list(plan.orders)}
    if path.exists():
        theirs = _read(path)
        for key, value in mine.items():
            if theirs[key] != value:
                raise UsageError(
                    f"{path}: {key} is {theirs[key]}, this run has {value}; choose another "
                    "directory or remove this one"
                )
    files = {
        "tokens": str(_file_of(stream.tokens, "<u4", directory / "tokens.u32")),
        "doc_starts": str(_file_of(stream.doc_starts, "<i8", directory / "doc_starts.i64")),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**mine, **files}, indent=2) + "\n")
    return ClusterRun(directory=directory, plan=plan, stream=stream)


def open_run(directory: Path) -> ClusterRun:
    """What ``make_run`` made, in another process.

    Raises:
        InputError: the plan or a file of the stream cannot be read.
    """
    document = _read(directory / "plan.json")
    names = Plan.__dataclass_fields__
    plan = Plan(**{**{name: document[name] for name in names}, "orders": tuple(document["orders"])})
    stream = TokenStream(
        tokens=_mapped(document["tokens"], "<u4"),
        doc_starts=_mapped(document["doc_starts"], "<i8"),
        vocab_size=plan.vocab_size,
        num_bytes=0,
        known_sha256=plan.stream_sha256,
    )
    return ClusterRun(directory=directory, plan=plan, stream=stream)


def _read(path: Path) -> dict[str, Any]:
    keys = {"format", "tokens", "doc_starts", *Plan.__dataclass_fields__}
    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(document, dict) or not keys <= set(document):
        raise InputError(f"{path}: is no plan of n-gram tasks; remove it")
    return document


def _mapped(path: str, dtype: str) -> NDArray[Any]:
    try:
        return np.memmap(path, dtype=dtype, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; launch the run again") from error


def _file_of(array: NDArray[Any], dtype: str, path: Path) -> Path:
    """The file that ``array`` is mapped from, else ``path``, where it is written."""
    mapped = Path(getattr(array, "filename", None) or path)
    if mapped.is_file() and mapped.stat().st_size == array.nbytes:
        return mapped.resolve()
    with replacing(path) as temporary:
        temporary.write_bytes(np.ascontiguousarray(array, dtype).data)  # tofile hides the errno
    return path.resolve()
