import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels.merge import merge_tables
from tests import reference

Grams = dict[tuple[int, ...], int]


@st.composite
def two_tables(draw: st.DrawFn) -> tuple[int, Grams, Grams]:
    order = draw(st.integers(1, 4))
    gram = st.tuples(*[st.integers(0, 3)] * order)
    tables = st.dictionaries(gram, st.integers(1, 2**40), max_size=12)
    return order, draw(tables), draw(tables)


def arrays(order: int, grams: Grams) -> tuple[np.ndarray, np.ndarray]:
    ascending = sorted(grams, key=lambda gram: gram[::-1])
    tokens = np.array(ascending, dtype=np.uint32).reshape(-1, order).T
    return np.ascontiguousarray(tokens), np.array([grams[g] for g in ascending], dtype=np.int64)


@given(two_tables())
def test_merged_tables_are_the_sum_of_two_counters(drawn: tuple[int, Grams, Grams]) -> None:
    order, left, right = drawn
    room = len(left) + len(right)
    tokens, counts = np.empty((order, room), np.uint32), np.empty(room, np.int64)
    size = merge_tables(*arrays(order, left), *arrays(order, right), tokens, counts)
    found = [tuple(gram) for gram in tokens[:, :size].T.tolist()]
    assert list(zip(found, counts[:size].tolist(), strict=True)) == reference.merge_tables(
        left, right
    )
