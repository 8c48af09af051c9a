"""Closed forms against exact enumeration where it is possible and simulation where it is not."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from ngscale.collisions.expected import (
    IdealHash,
    company,
    expected_occupied,
    occupied_variance,
)
from ngscale.collisions.metrics import measure
from ngscale.hashing.byte_hashes import Ideal
from ngscale.ngrams import NgramTable
from tests.reference import occupancy


def table_with(counts: list[int]) -> NgramTable:
    return NgramTable(
        order=2,
        tokens=np.zeros((2, len(counts)), dtype=np.uint32),
        counts=np.array(counts, dtype=np.int64),
    )


def entropy(ids: Sequence[int], counts: Sequence[int]) -> float:
    """Of the row traffic, in nats."""
    traffic: Counter[int] = Counter()
    for row, count in zip(ids, counts, strict=True):
        traffic[row] += count
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in traffic.values())


@pytest.mark.parametrize("counts", [[1], [3, 1], [5, 2, 2], [7, 1, 1, 1], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_expectations_equal_the_average_over_every_possible_hash(
    counts: list[int], rows: int
) -> None:
    """All rows**n hash functions, each equally likely, in exact fractions."""
    outcomes = [occupancy(ids, counts) for ids in product(range(rows), repeat=len(counts))]
    total = len(outcomes)
    occupied = Fraction(sum(o[0] for o in outcomes), total)
    variance = Fraction(sum(o[0] ** 2 for o in outcomes), total) - occupied**2
    ideal = IdealHash(table_with(counts), [rows]).at(rows)
    assert ideal.occupied == pytest.approx(float(occupied), rel=1e-12)
    assert ideal.collisions == pytest.approx(len(counts) - float(occupied), rel=1e-12, abs=1e-12)
    assert ideal.collisions_sd == pytest.approx(float(variance) ** 0.5, rel=1e-6, abs=1e-7)
    colliding = Fraction(sum(o[1] for o in outcomes), total)
    assert ideal.colliding == pytest.approx(float(colliding), rel=1e-12, abs=1e-12)
    assert ideal.token_weighted == pytest.approx(float(colliding) / len(counts), abs=1e-12)
    purity = sum((o[2] for o in outcomes), start=Fraction(0)) / total / sum(counts)
    assert ideal.purity == pytest.approx(float(purity), rel=1e-9)
    entropies = [entropy(ids, counts) for ids in product(range(rows), repeat=len(counts))]
    mean = sum(entropies) / total
    assert ideal.effective_rows is not None
    assert math.log(ideal.effective_rows) == pytest.approx(mean, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(("num_grams", "rows"), [(20_000, 8_000), (20_000, 400_000)])
def test_expectations_lie_within_four_standard_errors_of_a_simulation(
    num_grams: int, rows: int
) -> None:
    """Zipf-like counts up to 20,000; 40 random hashes, seed 0."""
    rng = np.random.default_rng(0)
    counts = np.maximum(1, 20_000 // np.arange(1, num_grams + 1))
    seen = []
    for _ in range(40):
        ids = rng.integers(0, rows, size=num_grams)
        grams = np.bincount(ids, minlength=rows)
        traffic = np.bincount(ids, weights=counts, minlength=rows)
        seen.append(
            (
                np.count_nonzero(grams),
                np.count_nonzero(grams[ids] > 1),
                np.sum(counts**2 / traffic[ids]) / counts.sum(),
            )
        )
    ideal = IdealHash(table_with(counts.tolist()), [rows]).at(rows)
    means, sds = np.mean(seen, axis=0), np.std(seen, axis=0, ddof=1)
    for value, mean, sd in zip(
        (ideal.occupied, ideal.colliding, ideal.purity), means, sds, strict=True
    ):
        assert abs(value - mean) < 4 * sd / 40**0.5
    assert ideal.collisions_sd == pytest.approx(sds[0], rel=0.5)


def spectrum(index: int) -> tuple[list[int], int]:
    """Counts of distinct bigrams, and rows: a load of 0.2 to 3 n-grams a row.

    At more, or with fewer n-grams, an empty or a shared row is so rare that 100 draws may have none
    and their spread says nothing.
    """
    rng = np.random.default_rng(index)
    num_grams = int(np.exp(rng.uniform(np.log(100), np.log(3000))))
    rows = max(1, int(num_grams / np.exp(rng.uniform(np.log(0.2), np.log(3)))))
    counts = [
        np.ones(num_grams),
        1 + 1000 // np.arange(1, num_grams + 1),
        rng.geometric(0.2, size=num_grams),
        1 + np.round(50 / np.arange(1, num_grams + 1) ** 0.5),
    ][index % 4]
    return counts.astype(int).tolist(), rows


def deviations(index: int, stage: int, num_draws: int) -> dict[str, float]:
    """How many sigma the mean of draws of the ideal hash lies from each closed form.

    The sigma of occupied rows is the closed form's own, the others' is that of the draws.
    """
    counts, rows = spectrum(index)
    places = np.arange(len(counts))
    table = NgramTable(
        order=2,
        tokens=np.stack([places % 50, places // 50]).astype(np.uint32),
        counts=np.array(counts, dtype=np.int64),
    )
    ideal = IdealHash(table, [rows]).at(rows)
    first = 2**32 * index + 2**16 * stage
    seen = [measure(table, Ideal(seed=first + k), rows) for k in range(num_draws)]
    found = {}
    for name in ("occupied", "colliding", "token_weighted", "purity", "effective_rows"):
        values = np.array([getattr(each, name) for each in seen], dtype=np.float64)
        expected = getattr(ideal, name)
        if name == "effective_rows":  # the mean that is known is the entropy's
            values, expected = np.log(values), math.log(expected)
        sigma = ideal.collisions_sd if name == "occupied" else values.std(ddof=1)
        found[name] = (values.mean() - expected) / (sigma / num_draws**0.5)
    return found


def test_closed_forms_lie_within_four_sigma_of_the_measured_hash_in_200_cases() -> None:
    """What ``measure`` reads off 100 draws, over bigrams in a regular pattern.

    Of 1,000 deviations of skewed counts one or two are beyond four sigma by chance: a case beyond
    three is drawn anew, 1,600 times, which shows a true deviation four times as clearly. Squares
    of occupied rows' add up to 200 within four sigma of a chi-square, so their sigma is tested too.
    """
    squares = 0.0
    for index in range(200):
        found = deviations(index, 1, 100)
        squares += found["occupied"] ** 2
        if max(map(abs, found.values())) > 3:
            found = deviations(index, 2, 1600)
        assert max(map(abs, found.values())) < 4, (index, found)
    assert abs(squares - 200) < 4 * 400**0.5


def test_a_count_of_a_billion_does_not_break_the_quadrature() -> None:
    """Two n-grams in M rows: exact by hand."""
    big, rows = 10**9, 1000
    ideal = IdealHash(table_with([big, 1]), [rows]).at(rows)
    shared = (big**2 + 1) / (big + 1)
    exact = ((rows - 1) / rows * (big + 1) + shared / rows) / (big + 1)
    assert ideal.purity == pytest.approx(exact, rel=1e-9)


def test_many_sizes_at_once_get_what_each_gets_alone() -> None:
    """Also one and two rows, and no n-gram at all."""
    sizes = np.array([1, 2, 3, 1000, 2**31 - 1])
    for n in (0, 1, 2, 5_000_000):
        for expectation in (expected_occupied, company, occupied_variance):
            alone = [float(expectation(n, rows)) for rows in sizes.tolist()]
            assert expectation(n, sizes).tolist() == alone
            assert all(map(math.isfinite, alone))
    assert float(occupied_variance(3, 2)) == pytest.approx(2 / 8 * (1 - 2 / 8))
    assert company(1, sizes).tolist() == [0.0] * len(sizes)
