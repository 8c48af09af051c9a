import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels.windows import interleave


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), min_size=1))
def test_interleaving_is_zip(columns: list[list[int]]) -> None:
    out = np.empty((3, len(columns)), dtype=np.int64)
    interleave(np.array(columns, dtype=np.uint32), out)
    assert out.tolist() == [list(position) for position in zip(*columns, strict=True)]
