"""The recipe of reports/*-robustness: its sizes, what it measures, and its statistics."""

import math

import numpy as np
import pytest

from ngscale.collisions.expected import IdealHash
from ngscale.collisions.metrics import measure
from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.primes import is_prime, next_prime
from ngscale.tokens import TokenStream
from reports.robustness import IdealImpurity, measure_sizes, plan, rank_file, scheme_of
from reports.robustness_plan import (
    HASHES,
    MULTIPLES,
    NUM_SAMPLES,
    ORDERS,
    PERMUTED,
    parity_sizes,
    size_set,
    sizes_of,
)
from reports.robustness_report import half_distance, interval, reach, sampled, slope

BASES = (32_768, 50_257, 131_072, 262_145)


@pytest.mark.parametrize("base", BASES)
def test_sizes_are_what_their_kind_says(base: int) -> None:
    prime_base = next_prime(base)
    sizes = size_set(base, prime_base, 7)
    assert sizes == size_set(base, prime_base, 7)
    by_kind: dict[str, list[int]] = {}
    for size in sizes:
        by_kind.setdefault(size.kind, []).append(size.rows)
    assert by_kind["multiple"] == [m * base for m in MULTIPLES]
    assert by_kind["B multiple"] == [m * prime_base for m in MULTIPLES]
    assert all(abs(rows - 31 * prime_base) in (1, 9, 121) for rows in by_kind["B beside"])
    assert all(map(is_prime, by_kind["nearest prime"] + by_kind["random prime"]))
    assert all(rows % 2 for rows in by_kind["random odd"])
    assert not any(rows % 2 for rows in by_kind["random even"])
    assert all(
        abs(2 * rows - p * base) <= 3 for p, rows in zip((61, 63), by_kind["half"][:2], strict=True)
    )
    (power,) = by_kind["power of two"]
    assert power.bit_count() == 1
    assert 31 / math.sqrt(2) <= power / base <= 31 * math.sqrt(2)


@pytest.mark.parametrize("scheme", [*HASHES, PERMUTED])
def test_every_vocabulary_has_the_same_sizes_by_name(scheme: str) -> None:
    labels = [
        [(size.kind, size.name) for size in sizes_of(scheme, size_set(base, next_prime(base), 7))]
        for base in BASES
    ]
    assert labels[0]
    assert all(label == labels[0] for label in labels)


@pytest.mark.parametrize("base", BASES)
def test_a_place_has_a_prime_an_odd_composite_and_the_even_number_between(base: int) -> None:
    for prime, odd, even in parity_sizes(base, 7):
        assert is_prime(prime)
        assert odd % 2
        assert not is_prime(odd)
        assert even == prime + 1
        assert prime < even < odd < prime + 200
        assert 30 <= prime / base < 33.01


def _table(order: int) -> NgramTable:
    rng = np.random.default_rng(order)
    tokens = (rng.zipf(1.3, 30_000) % 500).astype(np.uint32)
    stream = TokenStream(
        tokens=tokens, doc_starts=np.array([0, 30_000]), vocab_size=500, num_bytes=0
    )
    return count_ngrams(stream, orders=[order])[order]


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", HASHES)
def test_excess_is_the_library_s_impurity_over_its_ideal_hash_s(name: str, order: int) -> None:
    table, scheme = _table(order), scheme_of(name, 500, 3)
    sizes = [15_000, 15_001, 15_500, 40_001, 50_283]
    ideal = IdealHash(table, [])
    found = measure_sizes(table, scheme, sizes, IdealImpurity(table, 12_500, 55_000))
    for rows, impurity, colliding in zip(sizes, found["impurity"], found["colliding"], strict=True):
        measured = measure(table, scheme, rows)
        assert measured.impurity is not None
        assert measured.colliding is not None
        # Five significant digits are kept; the spline is within 1e-5 of the exact expectation.
        assert impurity == pytest.approx(
            measured.impurity / (1.0 - ideal.purity_at(rows)), rel=7e-5
        )
        expected = table.distinct * (1.0 - (1.0 - 1.0 / rows) ** (table.distinct - 1))
        assert colliding == pytest.approx(measured.colliding / expected, rel=6e-5)


def test_ranks_of_the_npm_package_become_arank_file() -> None:
    assert rank_file("! 0 IQ== Ig==\n! 5 Iw==") == b"IQ== 0\nIg== 1\nIw== 5\n"


def test_the_plan_has_every_cell_once_and_the_first_samples_first() -> None:
    cells = plan()
    assert len(set(cells)) == len(cells)
    main = [cell for cell in cells if cell.study == "cells"]
    assert len(main) == 24 * sum(NUM_SAMPLES.values())
    assert all(cell.part == 0 for cell in main[: 24 * len(ORDERS)])


def test_widths_are_read_off_the_curve_in_the_logarithm_of_the_offset() -> None:
    offsets = (1, 10, 100)
    assert half_distance(offsets, (9.0, 5.0, 1.0)) == pytest.approx(10.0)
    assert half_distance(offsets, (9.0, 1.0, 1.0)) == pytest.approx(math.sqrt(10))
    assert reach(offsets, (2.05, 2.05, 0.05)) == pytest.approx(10 * math.sqrt(10))
    assert reach(offsets, (1.04, 3.0, 1.0)) == 0.0
    assert reach(offsets, (9.0, 5.0, 2.0)) == 100.0


def test_slopes_are_exponents() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40))
    assert slope([x.tolist(), y.tolist()], (3.0 - 0.7 * x + 0.2 * y).tolist()) == pytest.approx(
        [-0.7, 0.2]
    )


def test_an_interval_is_students_on_logarithms() -> None:
    """t(0.975, 2) = 4.303 (any table); the sd of -1, 0, 1 is 1."""
    found = interval([math.exp(-1), 1.0, math.e])
    assert found.mean == pytest.approx(1.0)
    assert math.log(found.high) == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)
    assert math.log(found.low) == pytest.approx(-4.30265 / math.sqrt(3), rel=1e-5)


def test_one_value_is_its_own_interval_and_one_sample_tells_of_no_draw() -> None:
    alone = interval([3.0])
    assert (alone.low, alone.high) == pytest.approx((3.0, 3.0))
    drawn = sampled({("a", 0): [2.0], ("b", 0): [8.0], ("b", 1): [8.0]})
    assert drawn.mean == pytest.approx(4.0)
    assert (drawn.low, drawn.high) == (0.0, math.inf)


def test_an_interval_over_samples_leaves_out_what_corpora_differ_by() -> None:
    """Two corpora a factor of 1,000 apart, two samples each, sd sqrt(2) x 0.1 in both:
    se = sqrt(2 x 0.02 / 2) / 2, and t(0.975, 2) = 4.303.
    """
    values = {
        (corpus, part): [factor * math.exp(0.1 * sign)]
        for corpus, factor in (("a", 1.0), ("b", 1000.0))
        for part, sign in enumerate((-1, 1))
    }
    found = sampled(values)
    assert found.mean == pytest.approx(math.sqrt(1000))
    assert math.log(found.high / found.mean) == pytest.approx(
        4.30265 * math.sqrt(2 * 0.02 / 2) / 2, rel=1e-5
    )
    assert found.number == 4
