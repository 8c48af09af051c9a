"""Laws whose future is known: drawn at 30 times the sample, or exact in expectation."""

from itertools import pairwise

import numpy as np
import pytest

from ngscale.collisions.expected import IdealHash
from ngscale.collisions.extrapolate import (
    MAX_FACTOR,
    MIN_DOCUMENTS,
    Extrapolator,
    Frequencies,
    fit,
    grown,
    impurity_of,
)
from ngscale.collisions.occurrences import Occurrences
from ngscale.errors import NoResultError, UsageError
from ngscale.ngrams import NgramTable

DOC_TOKENS = 60
NUM_DOCS = 400
ROWS = 60_000


def text(
    num_docs: int,
    rng: np.random.Generator,
    *,
    exponent: float,
    repeats: float,
    num_types: int = 2**62,
) -> Occurrences:
    """Ranks by P(rank > x) = (1 + x/3)**(1 - exponent), cut at ``num_types``; with chance
    ``repeats`` a token is an earlier one of its document again: tokens are not independent.
    """
    chance = rng.uniform((1.0 + num_types / 3.0) ** (1.0 - exponent), 1.0, (num_docs, DOC_TOKENS))
    ids = (3.0 * (chance ** (1.0 / (1.0 - exponent)) - 1.0)).astype(np.int64)
    for place in range(1, DOC_TOKENS):
        again = rng.random(num_docs) < repeats
        earlier = ids[np.arange(num_docs), rng.integers(0, place, num_docs)]
        ids[:, place] = np.where(again, earlier, ids[:, place])
    found, grams = np.unique(ids.ravel(), return_inverse=True)
    return Occurrences(
        grams=grams.astype(np.int32),
        docs=np.repeat(np.arange(num_docs, dtype=np.int32), DOC_TOKENS),
        offsets=np.tile(np.arange(DOC_TOKENS), num_docs),
        num_grams=len(found),
        doc_tokens=np.full(num_docs, DOC_TOKENS),
        weight=1,
    )


def frequencies(drawn: Occurrences) -> Frequencies:
    counts, num_grams = drawn.spectrum()
    return Frequencies(counts=counts.astype(np.float64), num_grams=num_grams.astype(np.float64))


def extrapolator(seed: int, *, exponent: float = 1.3, repeats: float = 0.3) -> Extrapolator:
    rng = np.random.default_rng(seed)
    drawn = text(NUM_DOCS, rng, exponent=exponent, repeats=repeats)
    return Extrapolator(2, frequencies(drawn), drawn)


@pytest.mark.parametrize(("exponent", "repeats"), [(1.3, 0.0), (1.3, 0.4), (1.8, 0.3)])
def test_bands_cover_the_future_of_a_known_law(exponent: float, repeats: float) -> None:
    """20 seeds, factors 4 and 30; the bands are 95% ones and err on the wide side.

    18 of 20 or more: of a true 95% band 7 in 8 such runs have as many.
    """
    futures = {
        factor: frequencies(
            text(NUM_DOCS * factor, np.random.default_rng(99), exponent=exponent, repeats=repeats)
        )
        for factor in (4, 30)
    }
    for factor, future in futures.items():
        covered, errors = [], []
        for seed in range(20):
            found = extrapolator(seed, exponent=exponent, repeats=repeats).at(factor, [ROWS])[0]
            assert found.purity is not None
            assert found.distinct.value is not None
            impurity = 1.0 - impurity_of(future, ROWS)
            covered.append(
                found.distinct.low <= future.distinct <= found.distinct.high
                and found.purity.low <= impurity <= found.purity.high
            )
            errors.append(abs(found.distinct.value / future.distinct - 1.0))
        assert sum(covered) >= 18
        assert np.median(errors) < 0.1


def test_the_bounds_hold_and_have_no_purity() -> None:
    """10 seeds at 100 times the sample."""
    factor = 100
    drawn = text(NUM_DOCS * factor, np.random.default_rng(98), exponent=1.3, repeats=0.3)
    for seed in range(10):
        found = extrapolator(seed).at(factor, [ROWS])[0]
        assert found.distinct.value is None
        assert found.distinct.low < drawn.num_grams < found.distinct.high
        assert found.purity is None
        assert found.updates_per_touched_row.value is None


def test_a_band_ends_at_the_bounds_and_at_the_ngrams_there_are() -> None:
    drawn = text(NUM_DOCS, np.random.default_rng(5), exponent=1.3, repeats=0.3)
    few = drawn.num_grams * 1.5
    for factor in (30.0, 1000.0):
        found = Extrapolator(2, frequencies(drawn), drawn, num_possible=few).at(factor, [ROWS])[0]
        assert found.distinct.high == few
        free = Extrapolator(2, frequencies(drawn), drawn)
        bounds = free.bounded(factor, [ROWS])[0].distinct
        banded = free.banded(factor, [ROWS])[0].distinct
        assert drawn.num_grams <= bounds.low <= banded.low <= banded.high <= bounds.high


def test_at_the_samples_own_size_everything_is_the_samples() -> None:
    rng = np.random.default_rng(0)
    drawn = text(NUM_DOCS, rng, exponent=1.3, repeats=0.3)
    counts = np.bincount(drawn.grams)
    table = NgramTable(order=2, tokens=np.zeros((2, len(counts)), np.uint32), counts=counts)
    found = Extrapolator(2, frequencies(drawn), drawn).at(1.0, [1000, ROWS])
    for prediction, rows in zip(found, (1000, ROWS), strict=True):
        ideal = IdealHash(table, [rows]).at(rows)
        assert prediction.distinct.value == prediction.distinct.low == table.distinct
        assert prediction.occupied.value == ideal.occupied
        assert prediction.load.high == table.distinct / rows
        assert prediction.sharing.value == ideal.token_weighted
        assert prediction.purity is not None
        assert prediction.purity.value == pytest.approx(ideal.purity, rel=1e-12)
        assert prediction.purity.low == prediction.purity.high
        assert prediction.updates_per_row == table.occurrences / rows


def test_more_text_never_means_fewer_ngrams_or_purer_rows() -> None:
    source = extrapolator(3)
    factors = [1.0, 1.01, 1.5, 2.0, 2.5, 4.0, 7.0, 8.0, 15.0, 16.1, MAX_FACTOR]
    found = [source.at(factor, [ROWS])[0] for factor in factors]
    for before, after in pairwise(found):
        assert before.distinct.value is not None
        assert after.distinct.value is not None
        assert before.distinct.value < after.distinct.value
        assert before.updates_per_row < after.updates_per_row
        assert before.purity is not None
        assert after.purity is not None
        assert before.purity.value is not None
        assert after.purity.value is not None
        assert before.purity.value > after.purity.value
    last = found[-1]
    assert last.purity is not None
    assert 0.0 <= last.purity.low < last.purity.high <= 1.0
    assert last.occupied.high <= ROWS


def test_a_power_law_is_continued_exactly() -> None:
    """N_c(t) = t**0.6 c**-0.6 has growth 0.6 and no thinning; nothing is left to fit."""
    levels, octaves = np.arange(7), np.arange(12)
    law = fit(2.0 ** (40 - 0.6 * levels[:, None] - 0.6 * octaves))
    assert law.growths(5) == pytest.approx(0.6)
    assert law.thinnings(5, 12) == pytest.approx(0.0, abs=1e-9)
    edges = 2.0 ** np.arange(31)
    now = Frequencies(counts=edges[:-1], num_grams=2.0**40 * -np.diff(edges**-0.6))
    for factor in (2.0, 5.0, 16.0, 30.0):
        then = grown(now, law, factor)
        assert then.distinct == pytest.approx(now.distinct * factor**0.6, rel=1e-6)
        for reached in (2, 4, 64):
            of_now = now.num_grams[now.counts >= reached].sum()
            of_then = then.num_grams[then.counts >= reached * factor].sum()
            assert of_then == pytest.approx(of_now, rel=1e-6)


def test_few_documents_and_less_text_are_refused() -> None:
    drawn = text(MIN_DOCUMENTS - 1, np.random.default_rng(0), exponent=1.3, repeats=0.3)
    with pytest.raises(NoResultError, match="128 documents or more"):
        Extrapolator(2, frequencies(drawn), drawn)
    with pytest.raises(UsageError, match="more tokens"):
        extrapolator(0).at(0.5, [ROWS])
