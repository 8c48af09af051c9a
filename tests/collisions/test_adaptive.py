"""Adaptive sweeps against the exhaustive ones of the same n-grams."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from ngscale.collisions import adaptive, predict
from ngscale.collisions.adaptive import THRESHOLD, sweep_adaptively
from ngscale.collisions.occupancy import Sharing, occupied_rows
from ngscale.collisions.predict import fit, held_out_error, is_marginal, marginal_signal
from ngscale.collisions.survey import THRESHOLDS, columns, survey
from ngscale.collisions.sweep import SharingSweep, as_sweep
from ngscale.ngrams import NgramTable

V0 = 2_048
SIZES = list(range(8 * V0, 12 * V0 + 1))


@contextmanager
def quiet(title: str, total: int) -> Iterator[Callable[[int], object]]:
    yield lambda steps: None


def skewed_table(order: int, number: int, power: float) -> NgramTable:
    """N-grams of ids V0 * u**power, u uniform, seed 0: small ids are frequent, as a tokenizer's."""
    ids = (V0 * np.random.default_rng(0).random((order, number)) ** power).astype(np.int64)
    grams, counts = np.unique(ids, axis=1, return_counts=True)
    return NgramTable(order=order, tokens=grams.astype(np.uint32), counts=counts.astype(np.int64))


@pytest.fixture(scope="module")
def table() -> NgramTable:
    return skewed_table(2, 20_000, 2.5)


@pytest.fixture(scope="module")
def truth(table: NgramTable) -> SharingSweep:
    return as_sweep(table, SIZES, Sharing(occupied_rows(table, V0, SIZES)))


def test_what_is_counted_is_the_truth_and_every_row_says_which_it_is(
    table: NgramTable, truth: SharingSweep
) -> None:
    asked = [SIZES[777], SIZES[4001]]
    found = sweep_adaptively(table, V0, SIZES, asked, quiet)
    exact = found.swept.exact
    assert exact is not None
    assert 0 < exact.sum() < len(SIZES)
    assert (found.swept.measured.occupied == truth.measured.occupied)[exact].all()
    assert exact[np.isin(SIZES, asked)].all()
    near = [p * V0 // q + off for p, q in ((9, 1), (21, 2), (28, 3)) for off in (0, 1)]
    assert exact[np.isin(SIZES, near)].all()
    data = columns([found.swept])
    assert set(data) == {"order", "table_rows", "exact", "occupied"}
    assert data["exact"].tolist() == exact.astype(int).tolist()
    assert found.told["num_exact"] == exact.sum()
    assert found.told["num_exact"] + found.told["num_predicted"] == len(SIZES)


def test_bad_sizes_are_found_and_the_error_told_is_the_error_made(
    table: NgramTable, truth: SharingSweep
) -> None:
    found = sweep_adaptively(table, V0, SIZES, [], quiet)
    exact, told = found.swept.exact, found.told["calibration"]
    assert exact is not None
    bad = truth.excess() > THRESHOLD
    assert bad.sum() == 108
    assert not told["capped"]
    assert (bad & exact).sum() >= 0.995 * bad.sum()
    errors = np.log(truth.excess() / found.swept.excess())[~exact]
    made = float(np.sqrt((errors**2).mean()))
    assert 0 < made < 0.05
    assert told["error_rms"] == pytest.approx(made, rel=0.5)


def test_a_survey_lists_counted_sizes_alone_and_those_asked_for(table: NgramTable) -> None:
    asked = [SIZES[777]]
    swept = sweep_adaptively(table, V0, SIZES, asked, quiet).swept
    assert swept.exact is not None
    listed = {point.table_rows for point in survey(swept, V0, "V0", asked).points}
    assert listed >= {*asked, 8 * V0, 9 * V0 + 1}
    assert listed <= set(swept.sizes[swept.exact].tolist())
    with pytest.raises(AssertionError, match="only what was counted"):
        swept.points(np.flatnonzero(~swept.exact)[:1].tolist())


def test_few_sizes_are_all_counted(table: NgramTable) -> None:
    found = sweep_adaptively(table, V0, SIZES[:300], [], quiet)
    assert found.told == {"order": 2, "num_exact": 300, "num_predicted": 0, "calibration": None}


def test_higher_orders_are_scanned_by_a_subsample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "SCAN_GRAMS", 4_000)
    monkeypatch.setattr(adaptive, "_MIN_GRAMS", 16_000)
    table = skewed_table(3, 60_000, 4.0)
    assert not is_marginal(table, V0, np.array(SIZES))
    found = sweep_adaptively(table, V0, SIZES, [], quiet)
    exact = found.swept.exact
    assert exact is not None
    occupied = occupied_rows(table, V0, SIZES)
    assert (found.swept.measured.occupied == occupied)[exact].all()
    assert found.told["calibration"]["signal"] == "subsample"
    whole = as_sweep(table, SIZES, Sharing(occupied)).excess()
    worst = np.argsort(whole)[-20:]
    assert exact[worst].all()


def test_a_limit_on_counted_sizes_is_kept_and_told(
    table: NgramTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive, "FIRST_MARGIN", 1.02)
    monkeypatch.setattr(adaptive, "MAX_COUNTED", 1.0)
    free = sweep_adaptively(table, V0, SIZES, [], quiet).told
    assert free["calibration"]["margin"] < adaptive.FIRST_MARGIN
    monkeypatch.setattr(adaptive, "MAX_COUNTED", 0.0)
    told = sweep_adaptively(table, V0, SIZES, [], quiet).told
    assert told["calibration"]["capped"]
    assert told["calibration"]["margin"] == adaptive.FIRST_MARGIN
    assert told["num_exact"] < free["num_exact"]


def test_the_signal_of_independent_tokens_has_the_ideal_level() -> None:
    """Uniform degrees: next to no size is better or worse than chance, but for tables so large
    that few bigrams have partners."""
    rng = np.random.default_rng(0)
    codes = np.sort(rng.choice(V0 * V0, 60_000, replace=False))
    tokens = np.array([codes % V0, codes // V0], dtype=np.uint32)
    table = NgramTable(order=2, tokens=tokens, counts=np.ones(len(codes), dtype=np.int64))
    sizes = np.arange(8 * V0 + 500, 8 * V0 + 600)
    assert marginal_signal(table, V0, sizes) == pytest.approx(np.ones(100), rel=0.02)


def test_a_curve_meets_what_it_was_fitted_to_and_stays_level_beyond() -> None:
    signal = np.linspace(0.9, 3.0, 40)
    excess = np.exp(0.1 + 0.5 * np.log(signal) ** 3)
    curve = fit(signal, excess)
    assert curve.at(signal) == pytest.approx(excess, rel=1e-9)
    assert curve.at(np.array([0.1, 50.0])) == pytest.approx(excess[[0, -1]], rel=1e-9)
    assert held_out_error(signal[5:-5], excess[5:-5]) == pytest.approx(np.zeros(30), abs=0.05)


def test_the_threshold_is_the_surveys_first() -> None:
    assert THRESHOLDS[0] == THRESHOLD
