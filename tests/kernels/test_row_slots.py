"""The hash table of rows against a dict in order of first sight."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels.row_slots import find_or_add, rebuild

ROWS = st.lists(st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 50), max_size=30), max_size=6)


@given(ROWS, st.booleans())
def test_slots_are_those_of_a_dict(batches: list[list[int]], rebuilt: bool) -> None:
    total = sum(map(len, batches)) + 1
    size = 1 << total.bit_length()  # full but for one place at worst
    index, seen = np.full(size, -1, np.int32), np.zeros(total, np.int64)
    used, expected = 0, dict[int, int]()
    for batch in batches:
        if rebuilt:
            index[:] = -1
            rebuild(index, seen, used)
        slots = np.zeros(len(batch), np.int64)
        used = find_or_add(index, seen, used, np.array(batch, np.int64), slots)
        assert slots.tolist() == [expected.setdefault(row, len(expected)) for row in batch]
    assert used == len(expected)
    assert seen[:used].tolist() == list(expected)
