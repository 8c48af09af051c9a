import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.probe.advice import DROWNED_BELOW, advise, predicted_share
from ngscale.probe.norms import FirstLayer
from ngscale.spec import Amplification

COORDINATES = st.lists(
    st.floats(-100, 100, allow_nan=False).filter(lambda x: abs(x) > 1e-3), min_size=4, max_size=4
)


def layer(embed: float, write: float, cross: float = 0.0) -> FirstLayer:
    """Three tokens with norms ``embed`` and ``write``; the first one would upset any median."""

    def row(value: float) -> np.ndarray:
        return np.array([[1e9, value, value]])

    return FirstLayer(embed_sq=row(embed**2), cross=row(cross), write_sq=row(write**2))


@pytest.mark.parametrize(("times", "share"), [(0.0, 1.0), (1.0, 0.5), (3.0, 0.1), (10.0, 1 / 101)])
def test_an_orthogonal_write_r_times_as_long_leaves_one_over_one_plus_r_squared(
    times: float, share: float
) -> None:
    assert predicted_share(layer(2.0, 2.0 * times), 1.0)[0, 1] == pytest.approx(share)


@given(COORDINATES, COORDINATES, st.floats(0.1, 100))
def test_the_prediction_is_the_projection_of_the_scaled_stream(
    embed: list[float], write: list[float], scale: float
) -> None:
    e, w = np.array(embed), np.array(write)
    h = scale * e + w
    if h @ h < 1e-6 * (w @ w):
        return  # they cancel: any share follows
    measured = FirstLayer(
        embed_sq=np.array([[e @ e]]), cross=np.array([[e @ w]]), write_sq=np.array([[w @ w]])
    )
    expected = (h @ (scale * e)) / (h @ h)
    assert predicted_share(measured, scale)[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def advice_for(measured: FirstLayer, already: Amplification = "none", ratio: float = 10.0):  # type: ignore[no-untyped-def]
    return advise(measured, attention_ratio=ratio, hidden_size=64, already=already)


def test_an_embedding_over_the_line_needs_nothing() -> None:
    advice = advice_for(layer(1.0, 2.0))
    assert (advice.choice, advice.drowned) == ("none", False)
    assert advice.predicted_share["none"] == pytest.approx(0.2)


def test_the_papers_case_gets_sqrt_d_and_its_evidence() -> None:
    """EVIDENCE 1.4: first attention about 10 times its identity branch; D = 64 here."""
    advice = advice_for(layer(1.0, 10.0))
    assert (advice.choice, advice.drowned, advice.evidence_applies) == ("sqrt_d", True, True)
    assert advice.predicted_share["none"] == pytest.approx(1 / 101)
    assert advice.predicted_share["sqrt_d"] == pytest.approx(64 / 164)
    assert advice.predicted_share["layernorm"] == pytest.approx(64 / 164)  # |e| is 1 already


def test_a_small_embedding_that_sqrt_d_cannot_lift_gets_layernorm() -> None:
    advice = advice_for(layer(0.1, 10.0))
    assert advice.predicted_share["sqrt_d"] < DROWNED_BELOW < advice.predicted_share["layernorm"]
    assert advice.choice == "layernorm"


def test_where_neither_lifts_it_over_the_line_the_better_one_is_advised() -> None:
    advice = advice_for(layer(2.0, 1000.0))
    assert advice.predicted_share["layernorm"] < advice.predicted_share["sqrt_d"] < DROWNED_BELOW
    assert advice.choice == "sqrt_d"


def test_an_amplified_checkpoint_gets_no_second_amplification() -> None:
    advice = advice_for(layer(1.0, 10.0), already="sqrt_d")
    assert (advice.choice, advice.drowned, advice.already) == ("none", True, "sqrt_d")


@pytest.mark.parametrize(
    ("ratio", "applies"), [(1.0, False), (4.9, False), (5.0, True), (21, False)]
)
def test_evidence_applies_within_a_factor_of_two_of_the_papers_ratio(
    ratio: float, applies: bool
) -> None:
    assert advice_for(layer(1.0, 10.0), ratio=ratio).evidence_applies is applies
