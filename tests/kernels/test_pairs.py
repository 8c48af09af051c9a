import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.collisions.predict import autocorrelation
from ngscale.kernels.pairs import meeting_pairs
from tests import reference


@given(st.data(), st.integers(2, 6))
def test_pairs_are_those_of_a_loop_over_all_bigrams(data: st.DataObject, base: int) -> None:
    degrees = st.lists(st.integers(0, 9), min_size=base, max_size=base)
    previous, current = data.draw(degrees), data.draw(degrees)
    sizes = np.arange(1, base * base + 3)
    found = np.empty(len(sizes))
    f, g = (autocorrelation(np.array(row)) for row in (previous, current))
    meeting_pairs(sizes, base, f, g, found)
    for rows, pairs in zip(sizes.tolist(), found.tolist(), strict=True):
        assert pairs == reference.meeting_pairs(rows, base, previous, current)
