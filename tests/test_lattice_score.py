import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale.lattice_score import lattice_score, lattice_scores, rank_autocorrelation
from tests import reference

V0 = 131_072


@pytest.mark.parametrize("num_ids", [1, 2, 3, 50, 257])
def test_the_autocorrelation_is_that_of_the_rank_law(num_ids: int) -> None:
    assert rank_autocorrelation(num_ids) == pytest.approx(
        reference.rank_autocorrelation(num_ids), rel=1e-11
    )


@pytest.mark.parametrize("base", [2, 6, 16])
def test_order_2_is_the_exact_sum_at_every_small_size(base: int) -> None:
    """From M = (V/48)**2 on nothing is cut off."""
    for rows in range(1, 3 * base**2 // 2):
        exact = reference.lattice_score(rows, base, 2)
        assert lattice_score(rows, base, 2) == pytest.approx(exact, rel=1e-9, abs=1e-9), rows


@pytest.mark.parametrize(("base", "order", "tolerance"), [(40, 3, 0.05), (6, 4, 0.03)])
def test_higher_orders_are_near_the_whole_sum(base: int, order: int, tolerance: float) -> None:
    """Vectors beyond the box count with their mean density only."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(2 * base, 9 * base, 12).tolist()
    exact = np.array([reference.lattice_score(rows, base, order) for rows in sizes])
    found = np.array([lattice_score(rows, base, order) for rows in sizes])
    assert np.abs(found / exact - 1).max() < tolerance


@settings(max_examples=40)
@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=3), st.integers(2, 200))
def test_the_kernel_gives_what_numpy_gives(sizes: list[int], base: int) -> None:
    for order in (2, 3, 4, 5):
        one_by_one = [lattice_score(rows, base, order) for rows in sizes]
        assert lattice_scores(sizes, base, order) == pytest.approx(one_by_one, rel=1e-9)


@pytest.mark.parametrize(
    ("rows", "measured"),
    [
        (3_932_292, 3400 / 761),
        (3_933_471, 979 / 761),
        (3_958_375, 11_618 / 756),
        (4_006_478, 537 / 747),
        (4_013_167, 514 / 746),
        (10_297_934, 204 / 291),
        (13_181_518, 140 / 227),
        (7_812_416, 286 / 383),
        (3_778_937, 589 / 792),
    ],
)
def test_bigram_scores_are_near_the_counts_on_synthetic_text(rows: int, measured: float) -> None:
    """HASHING section 11, table: 2-gram count over uniform, ids drawn from the very rank law.

    Counts are of distinct bigrams, the score of occurrences: near each other, not equal.
    """
    assert lattice_score(rows, V0, 2) == pytest.approx(measured, rel=0.35)


def test_scores_put_the_published_ratios_in_their_order() -> None:
    """HASHING section 11, by 2-gram count over uniform."""
    ratios = [78.567, 30.618, 30.01, 30.501, 30.001, 30.1, 28.8, 30.5, 78]
    scores = [lattice_score(int(ratio * V0) + 1, V0, 2) for ratio in ratios]
    assert scores[:2] == sorted(scores[:2])
    assert max(scores[:2]) < 0.8 < 1.2 < scores[2]
    assert scores[2:] == sorted(scores[2:])


def test_a_multiple_of_the_base_is_bad_at_every_order() -> None:
    for order in (2, 3, 4):
        assert lattice_score(32 * V0, V0, order) > 1.2 * lattice_score(32 * V0 + 977, V0, order)


def test_one_score_needs_no_numba() -> None:
    code = (
        "import sys; from ngscale.lattice_score import lattice_score; "
        "lattice_score(10_223_617, 131_072, 3); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_score_of_nothing_to_confuse_is_zero() -> None:
    """V**2 rows hold every bigram in a row of its own."""
    assert lattice_score(64**2, 64, 2) == 0.0
    assert math.isfinite(lattice_score(1, 64, 2))
