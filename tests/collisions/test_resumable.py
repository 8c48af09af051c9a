"""Sweeps that are killed, resumed, or have no room."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngscale.collisions import resumable
from ngscale.collisions.occupancy import sharing
from ngscale.collisions.resumable import Keep, resumable_sharing
from ngscale.errors import ResourceError
from ngscale.ngrams import NgramTable

V0 = 300
SIZES = list(range(4_096, 4_096 + 1_000))
rng = np.random.default_rng(0)
CODES = np.sort(rng.choice(V0 * V0, 2_000, replace=False))
TABLE = NgramTable(
    order=2,
    tokens=np.array([CODES % V0, CODES // V0], dtype=np.uint32),
    counts=rng.integers(1, 5, len(CODES)),
)


class Story:
    """What was told, and how many sizes were counted."""

    def __init__(self, directory: Path) -> None:
        self.lines: list[str] = []
        self.counted = 0
        self.keep = Keep(directory=directory, tell=self.lines.append)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], object]]:
        def done(steps: int) -> None:
            self.counted += steps

        yield done

    def run(
        self,
        table: NgramTable = TABLE,
        base: int = V0,
        sizes: Sequence[int] = SIZES,
        *,
        shared: bool = True,
    ) -> list[list[int] | None]:
        found = resumable_sharing(
            table, base, sizes, shared=shared, keep=self.keep, progress=self.progress
        )
        return [None if counts is None else counts.tolist() for counts in found]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "CHUNK_SIZES", 128)


def test_the_counts_are_those_of_one_sweep_and_are_kept(tmp_path: Path) -> None:
    expected = [np.asarray(counts).tolist() for counts in sharing(TABLE, V0, SIZES)]
    first = Story(tmp_path)
    assert first.run() == expected
    assert first.counted == len(SIZES)
    assert first.lines[0].startswith("1,000 sizes of 2,000 2-grams: about ")
    again = Story(tmp_path)
    assert again.run() == expected
    assert again.counted == 0
    assert again.lines == ["1,000 of 1,000 sizes are there already"]


def test_occupied_rows_alone(tmp_path: Path) -> None:
    expected = sharing(TABLE, V0, SIZES).occupied.tolist()
    assert Story(tmp_path).run(shared=False) == [expected, None, None]


def test_nothing_is_taken_from_a_run_with_other_options_or_another_corpus(tmp_path: Path) -> None:
    Story(tmp_path).run()
    other = NgramTable(order=2, tokens=TABLE.tokens, counts=TABLE.counts[::-1].copy())
    options: list[dict[str, Any]] = [
        {"shared": False},
        {"sizes": SIZES[:-1]},
        {"base": V0 + 1},
        {"table": other},
    ]
    for option in options:
        story = Story(tmp_path)
        story.run(**option)
        assert story.counted >= len(SIZES) - 1
        assert "already" not in story.lines[0]


def test_a_chunk_that_is_not_whole_is_counted_again(tmp_path: Path) -> None:
    expected = Story(tmp_path).run()
    chunk, *_ = sorted(tmp_path.glob("*/*.i64"))
    chunk.write_bytes(chunk.read_bytes()[:-8])
    story = Story(tmp_path)
    assert story.run() == expected
    assert story.counted == 128


def test_a_full_disk_ends_the_sweep_and_loses_no_finished_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = Path.write_bytes, 0

    def full(path: Path, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(ResourceError, match=r"\.i64: the disk is full") as error:
            Story(tmp_path).run()
    assert error.value.exit_code == 6
    assert not list(tmp_path.rglob(".tmp-*"))
    story = Story(tmp_path)
    assert story.run() == Story(tmp_path / "elsewhere").run()
    assert story.lines[0] == "384 of 1,000 sizes are there already"


def test_two_processes_do_not_make_the_same_sweep(tmp_path: Path) -> None:
    Story(tmp_path).run()
    (lock,) = tmp_path.glob("*/lock")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process"):
            Story(tmp_path).run()


@pytest.mark.slow
def test_a_killed_command_goes_on_and_gives_the_same_bytes(tmp_path: Path) -> None:
    ids = tmp_path / "ids.bin"
    grams = np.minimum(np.random.default_rng(1).zipf(1.2, 400_000), 1_500) - 1
    grams.astype("<u2").tofile(ids)
    options = ["--corpus", str(ids), "--vocab-size", "1500", "--orders", "2", "--ratio", "20:32"]
    command = [sys.executable, "-m", "ngscale", "collisions", *options, "--exhaustive"]

    def environment(cache: str) -> dict[str, str]:
        return {**os.environ, "NGSCALE_CACHE": str(tmp_path / cache)}

    subprocess.run(
        [*command, "--out", str(tmp_path / "whole")],
        check=True,
        capture_output=True,
        env=environment("one"),
    )
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "resumed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment("two"),
    )
    while not list(tmp_path.glob("two/sweeps/*/*.i64")):
        assert killed.poll() is None, "finished before it could be killed"
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "resumed").exists()
    kept = len(list(tmp_path.glob("two/sweeps/*/*.i64")))
    assert 0 < kept < -(-18_001 // 4096)
    resumed = subprocess.run(
        [*command, "--out", str(tmp_path / "resumed")],
        check=True,
        capture_output=True,
        text=True,
        env=environment("two"),
    )
    assert "sizes are there already" in resumed.stderr
    for name in ("record.json", "data/every_size.parquet"):
        whole, again = tmp_path / "whole" / name, tmp_path / "resumed" / name
        assert whole.read_bytes() == again.read_bytes()
