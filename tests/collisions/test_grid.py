import pytest

from ngscale.collisions.grid import around_grid, ratio_grid
from ngscale.errors import UsageError
from ngscale.primes import next_prime, previous_prime
from ngscale.resonance import fractions_between, lattice_length, nearest_rows


@pytest.mark.parametrize("base", [4_096, 32_768, 131_072])
def test_every_integer_multiple_and_fraction_is_measured_with_its_neighbours(base: int) -> None:
    sizes = set(ratio_grid(30, 33, base))
    for p, q in fractions_between(30, 33):
        middle = nearest_rows(p, q, base)
        assert {middle - 1, middle, middle + 1} <= sizes
        if q == 1:
            assert {previous_prime(middle), next_prime(middle)} <= sizes
            assert {middle - 961, middle + 17, middle + 961} <= sizes
    assert len(sizes) < 400
    assert max(lattice_length(size, base) for size in sizes) > 0.9


def test_step_one_is_exhaustive_and_bounded() -> None:
    assert ratio_grid(2, 3, 100, step=1) == list(range(200, 301))
    assert ratio_grid(2, 3, 100, step=30) == [200, 230, 260, 290]
    with pytest.raises(UsageError, match="larger --step"):
        ratio_grid(30, 60, 131_072, step=1)


def test_around_reaches_exactly_as_far_as_asked() -> None:
    sizes = around_grid(78, 2000, 131_072)
    middle = 78 * 131_072
    assert min(sizes) == middle - 2000
    assert max(sizes) == middle + 2000
    assert {middle, middle + 1, middle - 1, middle + 961} <= set(sizes)
    assert around_grid(78, 3, 131_072, step=1) == list(range(middle - 3, middle + 4))
    assert around_grid(1, 10, 5)[0] >= 1
    assert {previous_prime(middle), next_prime(middle)} <= set(sizes)
    assert max(around_grid(78, 2, 131_072)) == middle + 2
