"""Early rejection: the AUC against pairs, calibration against every threshold, recorded drafts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale.decode.measure import Setting
from ngscale.decode.reject_run import (
    Drafts,
    auc,
    auc_interval,
    calibrate,
    cut,
    evaluate,
    reached,
    record_drafts,
)
from ngscale.decode.rejection import ANY_SAMPLING, SCORES
from ngscale.decode.sampling import Sampling
from ngscale.decode.subject import Subject
from tests.decode.test_generate import drawn, head, prompts

SETTING = Setting(new_tokens=12, batch=2, sampling=Sampling(), seed=0)


def subject() -> Subject:
    return Subject(decoder=drawn(), name="small", files={}, max_tokens=None)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_the_auc_is_the_share_of_pairs_in_order(tokens: list[tuple[int, bool]]) -> None:
    standing = [value for value, stands in tokens if stands]
    falling = [value for value, stands in tokens if not stands]
    pairs = [(a > b) + (a == b) / 2 for a in standing for b in falling]
    found = auc(np.array([v for v, _ in tokens], float), np.array([s for _, s in tokens]))
    assert found == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)


def some_drafts() -> Drafts:
    rng = np.random.default_rng(0)
    accepted = rng.integers(0, 5, 200)
    scores = rng.normal(size=(200, 4)) + (np.arange(4) < accepted[:, None])
    return Drafts({"head": scores}, accepted, np.arange(200) // 10)


@pytest.mark.parametrize("target", [0.0, 0.05, 0.3])
def test_calibration_takes_the_highest_threshold_that_loses_no_more(target: float) -> None:
    drafts = some_drafts()
    allowed = [t for t in np.unique(drafts.scores["head"]) if cut(drafts, "head", t)[1] <= target]
    assert calibrate(drafts, "head", target) == max(allowed)


def test_a_cut_is_counted_draft_by_draft() -> None:
    drafts = some_drafts()
    drafted = accepted = 0
    for scores, stood in zip(drafts.scores["head"], drafts.accepted, strict=True):
        kept = next((i for i, one in enumerate(scores) if one < 0.2), 4)
        drafted, accepted = drafted + kept, accepted + min(kept, stood)
    saved, lost = cut(drafts, "head", 0.2)
    assert saved == pytest.approx(1 - drafted / 800)
    assert lost == pytest.approx(1 - accepted / drafts.accepted.sum())


def test_tokens_behind_the_first_that_fell_tell_nothing() -> None:
    drafts = Drafts({"head": np.zeros((3, 3))}, np.array([0, 1, 3]), np.arange(3))
    expected = [[True, False, False], [True, True, False], [True, True, True]]
    assert reached(drafts).tolist() == expected


def test_a_score_that_knows_what_stands_has_an_auc_of_1() -> None:
    accepted = np.array([0, 1, 2, 3, 1])
    knows = np.where(np.arange(3) < accepted[:, None], 1.0, 0.0)
    drafts = Drafts({"knows": knows}, accepted, np.arange(5))
    assert auc_interval(drafts, "knows") == (1.0, 1.0, 1.0)


def test_recorded_drafts_are_those_of_the_run() -> None:
    found = record_drafts(subject(), head(), prompts().numpy(), 3, SETTING)
    assert set(found.scores) == set(SCORES)
    assert found.scores["head"].shape == (len(found.accepted), 3)
    assert set(found.sequence.tolist()) == {0, 1, 2}
    assert (found.scores["head"] <= 0).all()
    assert ((found.scores["random"] >= 0) & (found.scores["random"] < 1)).all()
    assert (found.scores["trained"] == 1).all()  # all rows are drawn here
    assert (found.scores["entropy"] >= -np.log(64) - 1e-5).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rejection_is_evaluated_without_changing_greedy_tokens(temperature: float) -> None:
    sampling = Sampling(temperature=temperature)
    setting = Setting(new_tokens=12, batch=2, sampling=sampling, seed=0)
    other = prompts(5)[3:].numpy()
    found = evaluate(subject(), head(), prompts().numpy(), other, 2, setting)
    names = [row["score"] for row in found["rejectors"]]
    assert names == list(SCORES if temperature == 0 else ANY_SAMPLING)
    if temperature == 0:
        assert all(row["sequences_equal"] == 3 for row in found["rejectors"])
