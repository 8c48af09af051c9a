from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.probe.advice import DROWNED_BELOW, Advice, Checked, advise, predicted_share
from ngscale.probe.norms import FirstLayer, StreamNorms, SublayerNorms
from ngscale.probe.stream import Closure
from ngscale.probe.structure import Kind
from ngscale.spec import Amplification

HIDDEN_SIZE = 64
COORDINATES = st.lists(
    st.floats(-100, 100, allow_nan=False).filter(lambda x: abs(x) > 1e-3), min_size=4, max_size=4
)


def layer(embed: float, write: float, cross: float = 0.0) -> FirstLayer:
    """Three tokens with norms ``embed`` and ``write``; the first one would upset any median.

    The embedding has mean 0, so that LayerNorm gives it the norm sqrt(D).
    """

    def row(value: float) -> np.ndarray:
        return np.array([[1e9, value, value]])

    return FirstLayer(
        embed_sq=row(embed**2),
        cross=row(cross),
        write_sq=row(write**2),
        normed_sq=row(HIDDEN_SIZE),
        normed_cross=row(cross * HIDDEN_SIZE**0.5 / embed),
    )


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
    nothing = np.zeros((1, 1))
    measured = FirstLayer(
        embed_sq=np.array([[e @ e]]),
        cross=np.array([[e @ w]]),
        write_sq=np.array([[w @ w]]),
        normed_sq=nothing,
        normed_cross=nothing,
    )
    expected = (h @ (scale * e)) / (h @ h)
    assert predicted_share(measured, scale)[0, 0] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def norms(measured: FirstLayer, ratio: float) -> StreamNorms:
    """One attention that writes ``ratio`` times the embedding, and an MLP that writes less."""
    embed = np.sqrt(measured.embed_sq)
    writes: tuple[tuple[str, Kind, float], ...] = (
        ("L0_attn_out", "attention", ratio),
        ("L0_mlp_out", "mlp", 0.5),
    )
    sublayers = [
        SublayerNorms(
            name=name,
            kind=kind,
            added_to="",
            write=embed * times,
            stream=embed,
            layer_input=embed,
            cosine=embed,
            ratio_by_stream=None,
        )
        for name, kind, times in writes
    ]
    closure = Closure(max_relative_error=0.0, where="", checks=1)
    return StreamNorms(
        sublayers=tuple(sublayers),
        shares=(),
        first_layer=measured,
        embed=embed,
        embed_parts={},
        closure=closure,
    )


def advice_for(
    measured: FirstLayer,
    already: Amplification = "none",
    ratio: float = 10.0,
    checked: Mapping[Amplification, Checked] | None = None,
) -> Advice:
    return advise(
        norms(measured, ratio), hidden_size=HIDDEN_SIZE, already=already, checked=checked or {}
    )


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
    checked: dict[Amplification, Checked] = {"scalar": Checked(share=0.0, losses=())}
    advice = advice_for(layer(2.0, 1000.0), checked=checked)
    assert advice.predicted_share["layernorm"] < advice.predicted_share["sqrt_d"] < DROWNED_BELOW
    assert advice.choice == "sqrt_d"


def test_where_neither_does_and_the_scalar_does_that_is_advised() -> None:
    assert advice_for(layer(2.0, 1000.0)).choice == "scalar"


@pytest.mark.parametrize("cross", [0.0, 3.0, -3.0])
def test_the_scalar_makes_the_embedding_half_of_the_stream_whatever_the_angle(
    cross: float,
) -> None:
    advice = advice_for(layer(2.0, 30.0, cross))
    assert advice.factors["scalar"] == pytest.approx(15.0)
    assert advice.predicted_share["scalar"] == pytest.approx(0.5)


def test_a_scalar_never_makes_the_embedding_smaller() -> None:
    advice = advice_for(layer(2.0, 1.0))
    assert advice.factors["scalar"] == 1.0
    assert advice.times == pytest.approx(0.5)


def test_where_it_drowns_is_the_sub_layer_that_writes_most() -> None:
    assert advice_for(layer(1.0, 10.0), ratio=0.2).where == "L0_mlp_out"
    assert advice_for(layer(1.0, 10.0), ratio=9.0).where == "L0_attn_out"


def test_a_checked_share_goes_before_the_predicted_one() -> None:
    """sqrt(D) is predicted to lift it over the line, and does not when the model is run so."""
    checked: dict[Amplification, Checked] = {
        "sqrt_d": Checked(share=0.01, losses=()),
        "layernorm": Checked(share=0.2, losses=()),
    }
    advice = advice_for(layer(1.0, 10.0), checked=checked)
    assert advice.predicted_share["sqrt_d"] > DROWNED_BELOW
    assert advice.choice == "layernorm"


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
