import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ngscale.resident import give_back, let_go

WORDS = 2**22


def resident_bytes(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(kind)).split()[1])


def mapped(
    path: Path, mode: Literal["r", "r+", "c"]
) -> "np.memmap[tuple[int], np.dtype[np.int32]]":
    np.arange(WORDS, dtype=np.int32).tofile(path)
    return np.memmap(path, np.int32, mode)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_was_read_of_a_file_is_let_go_the_rest_is_not(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a", "r")
    assert array.sum(dtype=np.int64) == WORDS * (WORDS - 1) // 2
    before = resident_bytes("RssFile")
    let_go(array[WORDS // 2 : WORDS // 2 + 2**18])
    assert 2**20 <= before - resident_bytes("RssFile") <= array.nbytes / 2
    let_go(array)
    assert before - resident_bytes("RssFile") >= array.nbytes * 0.9  # Linux counts in batches
    assert array[[0, WORDS // 2, -1]].tolist() == [0, WORDS // 2, WORDS - 1]


def test_the_ends_of_a_map_and_views_of_it_are_let_go(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a", "r")
    table = np.memmap(tmp_path / "a", np.int32, "r", offset=4000, shape=(4, 1000))
    for view in (array[:1], array[-1:], array[:0], array[::-3], table[:, 10:20], table[::-1]):
        let_go(view)
    assert array.sum(dtype=np.int64) == WORDS * (WORDS - 1) // 2


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_a_map_that_can_be_written_keeps_what_was(tmp_path: Path, mode: Literal["r+", "c"]) -> None:
    array = mapped(tmp_path / "a", mode)
    array[:] = 7
    let_go(array)
    let_go(array.view(np.ndarray))
    give_back()
    assert (array == 7).all()
