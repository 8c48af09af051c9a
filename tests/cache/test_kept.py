"""A killed run goes on where it stopped, and gives what a whole one gives."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngscale.cache.kept import identity, parts_of_run
from ngscale.cache.measure import Source
from ngscale.cache.trace import Rows
from ngscale.errors import ResourceError

ROWS = np.arange(12, dtype=np.int64).reshape(6, 2) - 1


class Reads:
    """The trace, and how often it was asked for."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Iterator[Rows]:
        self.count += 1
        yield from np.split(ROWS, 3)


def total(rows: Source) -> dict[str, Any]:
    return {"total": sum(int(chunk.sum()) for chunk in rows()), "ratio": 1 / 3}


def test_finished_parts_and_rows_are_not_made_again(tmp_path: Path) -> None:
    reads = Reads()
    with suppress(KeyboardInterrupt), parts_of_run(tmp_path, reads, ROWS.shape) as parts:
        first = parts.get("one", total)
        raise KeyboardInterrupt
    assert first == {"total": int(ROWS.sum()), "ratio": 1 / 3}
    assert parts.rows_path.stat().st_size == 4 * ROWS.size
    with parts_of_run(tmp_path, reads, ROWS.shape) as parts:
        assert parts.get("one", lambda rows: pytest.fail("made again")) == first
        assert parts.get("two", total) == first
        assert (parts.num_found, parts.num_asked) == (1, 2)
    assert reads.count == 1
    assert not parts.rows_path.exists()


def test_half_written_rows_are_hashed_again(tmp_path: Path) -> None:
    def broken() -> Iterator[Rows]:
        yield ROWS[:2]
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        parts_of_run(tmp_path, broken, ROWS.shape) as parts,
    ):
        parts.get("one", total)
    with parts_of_run(tmp_path, Reads(), ROWS.shape) as parts:
        assert parts.get("one", total)["total"] == int(ROWS.sum())


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    with parts_of_run(tmp_path, Reads(), ROWS.shape) as parts:
        parts.get("one", total)
    (tmp_path / "one.json").write_text('{"total": 1')
    with parts_of_run(tmp_path, Reads(), ROWS.shape) as parts:
        assert parts.get("one", total)["total"] == int(ROWS.sum())


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    with (
        parts_of_run(tmp_path, Reads(), ROWS.shape),
        pytest.raises(ResourceError, match="another process"),
        parts_of_run(tmp_path, Reads(), ROWS.shape),
    ):
        pass


def test_other_inputs_are_another_run() -> None:
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})
