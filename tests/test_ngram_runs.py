import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from ngscale import ngram_runs, whole_files
from ngscale.errors import InputError, ResourceError
from ngscale.ngrams import count_ngrams
from tests.test_ngrams import same, stream_of, zipf_stream

LIMIT = 1_500_000
"""Several ranges of buckets for the stream below."""
STREAM = zipf_stream(60_000)
RUN = f"""
import os, signal, sys
from pathlib import Path
from ngscale import whole_files
from ngscale.ngrams import count_ngrams
from tests.test_ngrams import zipf_stream

directory, kill_at, before = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "before"
commit, seen = whole_files.commit, 0

def killing(temporary, final):
    global seen
    seen += 1
    if seen == kill_at and before:
        os.kill(os.getpid(), signal.SIGKILL)
    commit(temporary, final)
    if seen == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

whole_files.commit = killing
count_ngrams(zipf_stream(60_000), 5, max_memory_bytes={LIMIT}, directory=directory, threads=2)
"""


def run(
    directory: Path, kill_at: int, moment: str = "before"
) -> "subprocess.CompletedProcess[str]":
    checkout = Path(__file__).parent.parent
    return subprocess.run(
        [sys.executable, "-c", RUN, str(directory), str(kill_at), moment],
        check=False,
        capture_output=True,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_spilled_tables_are_those_in_memory_byte_for_byte(tmp_path: Path) -> None:
    whole = count_ngrams(STREAM, 5)
    for limit in (LIMIT, 2 * LIMIT, None):
        directory = tmp_path / str(limit)
        tables = count_ngrams(STREAM, 5, max_memory_bytes=limit, directory=directory, threads=2)
        assert same(tables, whole)
        assert all(isinstance(table.tokens, np.memmap) for table in tables.values())
        assert files(directory) == files(tmp_path / str(LIMIT))


def test_a_limit_makes_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_runs.NgramRun, "finish", lambda run: None)
    count_ngrams(STREAM, 5, max_memory_bytes=LIMIT, directory=tmp_path, threads=2)
    assert len(list(tmp_path.glob("*/parts-2-3-4-5/*"))) >= 3


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what this process has finished."""
    names: list[str] = []
    commit = whole_files.commit

    def recording(temporary: Path, final: Path) -> None:
        commit(temporary, final)
        names.append(final.name)

    monkeypatch.setattr(whole_files, "commit", recording)
    return names


@pytest.mark.parametrize(
    ("kill_at", "moment"), [(1, "before"), (2, "after"), (-5, "after"), (-1, "before")]
)
def test_a_killed_run_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, commits: list[str], kill_at: int, moment: str
) -> None:
    count_ngrams(STREAM, 5, max_memory_bytes=LIMIT, directory=tmp_path / "whole", threads=2)
    whole = list(commits)
    assert len(whole) >= 3 + 4 * 3  # parts; tokens, counts and marker of each order
    stop = kill_at % (len(whole) + 1)
    assert run(tmp_path / "killed", stop, moment).returncode == -signal.SIGKILL
    commits.clear()
    count_ngrams(STREAM, 5, max_memory_bytes=LIMIT, directory=tmp_path / "killed", threads=2)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    left = len(whole) - stop + (moment == "before")
    assert left <= len(commits) <= left + 2  # at most one order is joined again


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends(tmp_path: Path) -> None:
    count_ngrams(STREAM, 5, max_memory_bytes=LIMIT, directory=tmp_path / "whole", threads=2)
    while run(tmp_path / "killed", 4, "after").returncode == -signal.SIGKILL:
        pass
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_parts_of_another_limit_are_reused(tmp_path: Path) -> None:
    assert run(tmp_path, 2, "after").returncode == -signal.SIGKILL
    tables = count_ngrams(STREAM, 5, max_memory_bytes=2 * LIMIT, directory=tmp_path, threads=1)
    assert same(tables, count_ngrams(STREAM, 5))


def test_finished_orders_are_only_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = count_ngrams(STREAM, 3, directory=tmp_path)

    def forbidden(*_: object, **__: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr("ngscale.ngrams.plan_buckets", forbidden)
    assert same(count_ngrams(STREAM, 3, directory=tmp_path), tables)


def test_another_policy_or_stream_has_a_directory_of_its_own(tmp_path: Path) -> None:
    count_ngrams(STREAM, 2, directory=tmp_path)
    crossing = count_ngrams(STREAM, 2, directory=tmp_path, cross_documents=True)
    assert same(crossing, count_ngrams(STREAM, 2, cross_documents=True))
    count_ngrams(zipf_stream(999), 2, directory=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("name", ["order-2.tokens.npy", "order-2.counts.npy", "order-2.json"])
def test_a_damaged_order_is_counted_again(tmp_path: Path, name: str) -> None:
    tables = count_ngrams(STREAM, 2, directory=tmp_path)
    (path,) = tmp_path.glob(f"*/{name}")
    os.truncate(path, path.stat().st_size // 2)
    assert same(count_ngrams(STREAM, 2, directory=tmp_path), count_ngrams(STREAM, 2))
    assert tables[2].distinct


def test_an_order_the_corpus_lacks_is_finished_and_absent(tmp_path: Path) -> None:
    for _ in range(2):
        tables = count_ngrams(stream_of([[1, 2], [3, 4]]), 4, directory=tmp_path)
        assert set(tables) == {2}


@pytest.mark.parametrize("call", [1, 3, 12])
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

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(ResourceError, match="the disk is full"):
            count_ngrams(STREAM, 5, directory=tmp_path, threads=2)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".tmp-")]
    assert same(count_ngrams(STREAM, 5, directory=tmp_path), count_ngrams(STREAM, 5))


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    count_ngrams(STREAM, 2, directory=tmp_path)
    (lock,) = tmp_path.glob("*/lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process"):
            count_ngrams(STREAM, 2, directory=tmp_path)


def test_a_directory_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        count_ngrams(STREAM, 2, directory=tmp_path / "file")
