import math

import numpy as np
import pytest
import torch
from torch import nn

from ngscale.errors import NoResultError
from ngscale.probe.norms import StreamNorms, measure
from ngscale.probe.stream import CLOSURE_TOLERANCE
from ngscale.probe.structure import find_structure
from tests.probe.models import HandLayer, HandModel

EMBEDDING = [[3.0, 0.0, 0.0, 4.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]]
ATTN, MLP = [0.0, 0.0, 12.0, 0.0], [0.0, 0.0, 0.0, 9.0]
IDS = np.array([[0, 1, 2, 0]])


def run(model: nn.Module, ids: np.ndarray = IDS) -> StreamNorms:
    return measure(
        find_structure(model, "test"), model, ids, device=torch.device("cpu"), done=lambda: None
    )


def test_norms_of_one_layer_are_those_worked_out_by_hand() -> None:
    norms = run(HandModel(EMBEDDING, [HandLayer(ATTN, MLP)]))
    attn, mlp = norms.sublayers
    assert (attn.name, mlp.name) == ("L0_attn_out", "L0_mlp_out")
    assert attn.write.tolist() == [[12.0] * 4]
    assert attn.stream.tolist() == [[5.0, 1.0, 2.0, 5.0]]  # |e|: (3,0,0,4), (0,1,0,0), (0,0,2,0)
    assert attn.cosine.tolist() == [[0.0, 0.0, 1.0, 0.0]]
    assert mlp.write.tolist() == [[9.0] * 4]
    assert mlp.stream[0] == pytest.approx([13.0, math.sqrt(145), 14.0, 13.0])  # (3,0,12,4), ...
    assert mlp.layer_input.tolist() == attn.stream.tolist()
    assert mlp.cosine[0] == pytest.approx([4 / 13, 0.0, 0.0, 4 / 13])


def test_the_embeddings_share_is_the_projection_worked_out_by_hand() -> None:
    norms = run(HandModel(EMBEDDING, [HandLayer(ATTN, MLP)]))
    (share,) = norms.shares
    # resid_post of id 0 is (3, 0, 12, 13): <h, e> = 9 + 52 = 61, |h|^2 = 9 + 144 + 169 = 322
    assert share.share[0, 0] == pytest.approx(61 / 322)
    assert share.cosine[0, 0] == pytest.approx(61 / (math.sqrt(322) * 5))
    first = norms.first_layer
    assert first.embed_sq[0].tolist() == pytest.approx([25.0, 1.0, 4.0, 25.0])
    assert first.cross[0].tolist() == pytest.approx([36.0, 0.0, 24.0, 36.0])
    assert first.write_sq[0].tolist() == pytest.approx([225.0] * 4)  # 12^2 + 9^2


def test_second_layer_and_second_window_have_their_own_streams() -> None:
    model = HandModel(EMBEDDING, [HandLayer(ATTN, MLP), HandLayer(MLP, ATTN)])
    norms = run(model, np.array([[0, 1], [1, 0]]))
    assert [s.name for s in norms.sublayers] == [
        f"L{layer}_{part}_out" for layer in (0, 1) for part in ("attn", "mlp")
    ]
    first, last = norms.sublayers[0], norms.sublayers[3]
    assert first.stream.tolist() == [[5.0, 1.0], [1.0, 5.0]]
    after = math.sqrt(9 + 12**2 + 22**2)  # (3, 0, 12, 4 + 9 + 9)
    assert last.stream[:, 0] == pytest.approx([after, math.sqrt(1 + 12**2 + 18**2)])
    assert last.layer_input[0, 0] == pytest.approx(math.sqrt(322))
    assert len(norms.shares) == 2


def test_a_write_of_zero_has_cosine_zero() -> None:
    norms = run(HandModel(EMBEDDING, [HandLayer([0.0] * 4, MLP)]))
    assert norms.sublayers[0].cosine.tolist() == [[0.0] * 4]


def test_a_closed_stream_closes_exactly() -> None:
    closure = run(HandModel(EMBEDDING, [HandLayer(ATTN, MLP)] * 1)).closure
    assert (closure.max_relative_error, closure.tolerance) == (0.0, CLOSURE_TOLERANCE)


@pytest.mark.parametrize(
    ("layer", "where"),
    [(0, "the input of layer 1"), (1, "the input of layer 2"), (2, "the input of the final norm")],
)
def test_one_unhooked_addition_fails_closure_where_it_first_shows(layer: int, where: str) -> None:
    layers = [HandLayer(ATTN, MLP, extra=0.01 if index == layer else 0.0) for index in range(3)]
    with pytest.raises(NoResultError, match=rf"closure fails at {where}: "):
        run(HandModel(EMBEDDING, layers))


def test_a_scaled_embedding_fails_closure_at_layer_0() -> None:
    class Scaled(HandModel):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.embed_tokens(ids)
            x *= 2.0  # in place: the hooked embedding must not follow
            return self.layers[0](x)  # type: ignore[no-any-return]

    with pytest.raises(NoResultError, match=r"closure fails at the input of layer 0: .*by 0\.5 "):
        run(Scaled(EMBEDDING, [HandLayer(ATTN, MLP)]))


def test_an_activation_that_is_not_finite_is_no_result() -> None:
    with pytest.raises(NoResultError, match="the output of L1_mlp_out is not finite"):
        run(HandModel(EMBEDDING, [HandLayer(ATTN, MLP), HandLayer(ATTN, [math.nan] * 4)]))


def test_a_stream_of_zero_has_no_ratio() -> None:
    with pytest.raises(NoResultError, match="stream at the input of layer 0 is zero"):
        run(HandModel([[0.0] * 4] * 3, [HandLayer(ATTN, MLP)]))


def test_a_skipped_layer_is_no_result() -> None:
    class Skips(HandModel):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.norm(self.layers[0](self.embed_tokens(ids)))  # type: ignore[no-any-return]

    with pytest.raises(NoResultError, match="wrote 2 times in one forward pass, not 4 times"):
        run(Skips(EMBEDDING, [HandLayer(ATTN, MLP), HandLayer(ATTN, MLP)]))


def test_a_shared_layer_is_no_result() -> None:
    layer = HandLayer(ATTN, MLP)
    with pytest.raises(NoResultError, match=r"L\d_attn_out ran twice"):
        run(HandModel(EMBEDDING, [layer, layer]))


def test_hooks_are_gone_after_a_run_and_after_a_failure() -> None:
    good = HandModel(EMBEDDING, [HandLayer(ATTN, MLP)])
    bad = HandModel(EMBEDDING, [HandLayer(ATTN, MLP, extra=1.0)])
    run(good)
    with pytest.raises(NoResultError):
        run(bad)
    for model in (good, bad):
        for module in model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
