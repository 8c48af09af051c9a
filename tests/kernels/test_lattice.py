import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels import lattice
from tests import reference

sizes = st.integers(2, 4)


@given(sizes, st.integers(1, 90), st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
def test_box_sums_are_those_over_every_vector_of_the_box(
    size: int, det: int, multipliers: list[int]
) -> None:
    chosen = [1 % det] + [multiplier % det for multiplier in multipliers[: size - 1]]
    half_width = {2: 12, 3: 6, 4: 3}[size]
    weights = np.concatenate([[0.0], 1.0 / np.arange(1.0, half_width + 1) ** 1.5])
    found = lattice.box_sums(
        np.array([det, det]), np.array([chosen, chosen]), np.array([half_width, 1]), weights
    )
    for half, total in zip((half_width, 1), found, strict=True):
        expected = reference.box_sum(det, [1, *chosen[1:]], half, weights.tolist())
        assert total == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(sizes, st.integers(1, 2**31 - 1), st.lists(st.integers(0, 2**31), min_size=3, max_size=3))
def test_reduction_keeps_the_lattice(size: int, det: int, multipliers: list[int]) -> None:
    basis = np.zeros((size, size), dtype=np.int64)
    basis[0, 0] = det
    chosen = [1] + [multiplier % det for multiplier in multipliers[: size - 1]]
    for s in range(1, size):
        basis[s, 0] = -chosen[s]
        basis[s, s] = 1
    lattice.reduce_pairwise(basis)
    for row in basis.tolist():
        assert sum(a * m for a, m in zip(row, chosen, strict=True)) % det == 0
    assert abs(np.linalg.det(basis.astype(float))) == pytest.approx(det, rel=1e-6)
    lengths = (basis.astype(float) ** 2).sum(axis=1)
    assert (np.diff(lengths) <= 0).all()


def test_limits_are_half_widths_times_the_dual() -> None:
    basis = np.array([[10, 0], [3, 1]])
    limits = np.empty(2, dtype=np.int64)
    lattice.coefficient_limits(basis, 20, limits)
    # Dual vectors (1/10, -3/10) and (0, 1).
    assert limits.tolist() == [8, 20]


@given(st.integers(0, 11), st.integers(-9, 9), st.integers(-9, 9))
def test_a_line_is_summed_point_by_point(num_points: int, step_a: int, step_b: int) -> None:
    weights = np.arange(100.0) ** 0.5
    found = lattice.pair_line(3, -4, step_a, step_b, num_points, weights)
    expected = sum(
        weights[abs(3 + c * step_a)] * weights[abs(-4 + c * step_b)] for c in range(num_points)
    )
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)
