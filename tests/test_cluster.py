import errno
import json
import os
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale import cluster, whole_files
from ngscale.cluster import STAGES, ClusterRun, Plan, make_run, open_run, range_ends
from ngscale.errors import InputError, ResourceError, UsageError
from ngscale.ngrams import count_ngrams
from ngscale.tokens import TokenStream
from tests.test_ngram_runs import STREAM
from tests.test_ngrams import documents, same, stream_of, zipf_stream

LIMIT = 1_500_000
"""Several ranges of n-grams for the stream of these tests."""


def plan_of(
    stream: TokenStream,
    *,
    orders: tuple[int, ...] = (2, 3, 4, 5),
    cross: bool = False,
    tasks: int = 3,
    limit: int | None = LIMIT,
) -> Plan:
    return Plan(
        stream_sha256=stream.sha256(),
        vocab_size=stream.vocab_size,
        orders=orders,
        cross_documents=cross,
        num_tasks=tasks,
        max_memory_bytes=limit,
    )


def finish(run: ClusterRun) -> list[tuple[str, int]]:
    """Every missing task, as another process would do it, and which those were."""
    done: list[tuple[str, int]] = []
    for stage in STAGES:
        for rank in run.missing(stage):
            open_run(run.directory).run_task(stage, rank, threads=2)
            done.append((stage, rank))
        assert run.missing(stage) == []
    return done


def tables(directory: Path) -> dict[str, bytes]:
    found = sorted(directory.glob("ngrams-*/order-*"))
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize(("tasks", "limit"), [(1, None), (2, LIMIT), (7, LIMIT), (5, None)])
def test_tasks_leave_the_files_of_one_process(
    tmp_path: Path, tasks: int, limit: int | None, cross: bool
) -> None:
    """Documents are cut by the parts of the corpus: n-grams belong to where they begin."""
    alone = count_ngrams(STREAM, 5, directory=tmp_path / "alone", cross_documents=cross)
    run = make_run(
        tmp_path / "tasks", STREAM, plan_of(STREAM, tasks=tasks, limit=limit, cross=cross)
    )
    finish(run)
    assert tables(tmp_path / "tasks") == tables(tmp_path / "alone") != {}
    run.clear()
    opened = count_ngrams(STREAM, 5, directory=tmp_path / "tasks", cross_documents=cross)
    assert same(opened, alone)
    assert not (tmp_path / "tasks" / "shards").exists()


def test_a_limit_makes_several_ranges_of_at_most_its_size(tmp_path: Path) -> None:
    run = make_run(tmp_path, STREAM, plan_of(STREAM, tasks=7))
    for rank in range(7):
        run.run_task("count", rank)
    for rank in range(7):
        run.run_task("merge", rank)
    parts = list(tmp_path.glob("ngrams-*/parts-5/*"))
    assert len(parts) >= 3
    assert all(part.joinpath("5.counts").stat().st_size // 8 <= LIMIT // 56 for part in parts)


@given(documents, st.integers(1, 30), st.booleans())
def test_n_grams_of_consecutive_positions_add_up(
    docs: list[list[int]], num_parts: int, cross: bool
) -> None:
    """More parts than tokens, too."""
    stream = stream_of(docs)
    whole = count_ngrams(stream, 4, cross_documents=cross)
    edges = [stream.num_tokens * i // num_parts for i in range(num_parts + 1)]
    parts = [
        count_ngrams(stream, 4, cross_documents=cross, positions=span) for span in pairwise(edges)
    ]
    for order in range(2, 5):
        found = [(p[order].tokens, p[order].counts) for p in parts if order in p]
        assert bool(found) == (order in whole)
        if found:
            tokens, counts = cluster.merge(found)
            assert tokens.tolist() == whole[order].tokens.tolist()
            assert counts.tolist() == whole[order].counts.tolist()


@given(st.lists(st.sets(st.integers(0, 400)), min_size=1, max_size=5), st.integers(1, 300))
def test_ranges_hold_no_more_than_they_may(columns: list[set[int]], grams: int) -> None:
    least = 2 * len(columns) + 1
    ends = range_ends([np.array([sorted(c)], dtype=np.uint32) for c in columns], grams)
    edges = [-1, *(end for (end,) in ends), 401]
    assert edges == sorted(set(edges))
    for low, high in pairwise(edges):
        assert sum(low < gram <= high for c in columns for gram in c) <= max(grams, least)


def test_a_relaunch_does_only_what_is_missing(tmp_path: Path) -> None:
    finish(make_run(tmp_path / "whole", STREAM, plan_of(STREAM)))
    run = make_run(tmp_path / "run", STREAM, plan_of(STREAM))
    run.run_task("count", 1)
    assert finish(make_run(tmp_path / "run", STREAM, plan_of(STREAM))) == [
        ("count", 0),
        ("count", 2),
        *(("merge", rank) for rank in range(3)),
        *(("join", rank) for rank in range(4)),
    ]
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")
    assert finish(make_run(tmp_path / "run", STREAM, plan_of(STREAM))) == []


@pytest.mark.parametrize("call", [2, 13, 40])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    reserve, calls = os.posix_fallocate, 0

    def full(file: int, offset: int, size: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(file, offset, size)

    run = make_run(tmp_path / "run", STREAM, plan_of(STREAM))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            finish(run)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".tmp-")]
    finish(run)
    count_ngrams(STREAM, 5, directory=tmp_path / "alone")
    assert tables(tmp_path / "run") == tables(tmp_path / "alone")


def test_a_task_killed_within_its_part_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, STREAM, plan_of(STREAM, tasks=1))
    commit, seen = whole_files.commit, list[str]()

    def stop(temporary: Path, final: Path) -> None:
        commit(temporary, final)
        seen.append(final.name)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(whole_files, "commit", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run_task("count", 0)
        run.run_task("count", 0)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"tasks": 4}, "num_tasks is 3, this run has 4"),
        ({"cross": True}, "cross_documents is False, this run has True"),
        ({"orders": (2, 3)}, "orders is .*, this run has .2, 3.;"),
        ({"limit": None}, "max_memory_bytes is 1500000, this run has None"),
    ],
)
def test_another_plan_is_refused(tmp_path: Path, other: dict[str, object], named: str) -> None:
    make_run(tmp_path, STREAM, plan_of(STREAM))
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(UsageError, match=rf"plan\.json: {named}"):
        make_run(tmp_path, STREAM, plan_of(STREAM, **other))  # type: ignore[arg-type]
    assert (tmp_path / "plan.json").read_bytes() == before


def test_another_corpus_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, STREAM, plan_of(STREAM))
    other = zipf_stream(999)
    with pytest.raises(UsageError, match=r"plan\.json: stream_sha256 is "):
        make_run(tmp_path, other, plan_of(other))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_plan_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"plan\.json"):
        make_run(tmp_path, STREAM, plan_of(STREAM))


def test_a_stage_before_its_turn_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, STREAM, plan_of(STREAM))
    run.run_task("count", 0)
    for stage in STAGES[1:]:
        with pytest.raises(InputError, match="count task 1 has not finished"):
            run.run_task(stage, 0)
    for rank in (1, 2):
        run.run_task("count", rank)
    with pytest.raises(InputError, match="merge task 0 has not finished"):
        run.run_task("join", 0)


def test_a_stream_of_the_cache_is_read_where_it_is(tmp_path: Path) -> None:
    STREAM.tokens.tofile(tmp_path / "tokens.u32")
    mapped = np.memmap(tmp_path / "tokens.u32", dtype="<u4", mode="r")
    kept = TokenStream(
        tokens=mapped, doc_starts=STREAM.doc_starts, vocab_size=STREAM.vocab_size, num_bytes=0
    )
    make_run(tmp_path / "run", kept, plan_of(kept))
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["tokens"] == str((tmp_path / "tokens.u32").resolve())
    (tmp_path / "tokens.u32").unlink()
    with pytest.raises(InputError, match=r"tokens\.u32: cannot be read: .*launch the run again"):
        open_run(tmp_path / "run")


def test_an_id_beyond_the_vocabulary_after_a_part_is_named() -> None:
    """The next part's token belongs to n-grams of this one."""
    with pytest.raises(InputError, match="token 9 at index 3 is not below"):
        count_ngrams(stream_of([[1, 2, 3, 9]]), 2, positions=(0, 3))


def test_a_merge_keeps_to_its_limit(tmp_path: Path) -> None:
    stream = zipf_stream(400_000, vocab_size=60_000)
    limit = 6 * 2**20
    run = make_run(tmp_path, stream, plan_of(stream, orders=(3, 4), limit=limit))
    for rank in range(3):
        run.run_task("count", rank)
    run.run_task("merge", 0)  # compiled now
    tracemalloc.start()
    try:
        for rank in (1, 2):
            run.run_task("merge", rank)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(list(tmp_path.glob("ngrams-*/parts-4/*"))) >= 3
    assert limit / 16 < peak < limit / 4  # of so little a quarter; mapped pages have the rest
