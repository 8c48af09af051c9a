"""Prediction against check: equal where writes do not see the embedding, else not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ngscale.errors import NoResultError
from ngscale.probe.advice import AMPLIFICATIONS, advise, factors
from ngscale.probe.amplify import amplified, built_in, layer_normed, next_token_loss
from ngscale.probe.load import Checkpoint
from ngscale.probe.norms import measure
from ngscale.probe.run import Subject, check_amplifications, num_passes, probe_checkpoint
from ngscale.probe.structure import find_structure
from ngscale.probe.windows import Place, Windows
from tests.probe.models import HandLayer, HandModel

EMBEDDING = [[3.0, 1.0, -2.0, 4.0], [1.0, 2.0, 0.5, 0.0], [0.0, 0.0, 2.0, 1.0]]
ATTN, MLP = [0.0, 5.0, 12.0, 1.0], [7.0, 0.0, 0.0, 9.0]
IDS = np.array([[0, 1, 2, 0, 2], [1, 0, 2, 1, 1]])


class Linear(nn.Module):
    """Writes what it reads, times a factor: without a norm, twice as much of twice as much."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.tensor([[0.0, 3.0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 3], [3, 0, 0, 0]])


def subject(model: HandModel, ids: np.ndarray = IDS) -> Subject:
    head = torch.eye(4)[:, :3]
    checkpoint = Checkpoint(
        name="hand",
        model_type="hand",
        is_own=False,
        hidden_size=4,
        vocab_size=3,
        max_tokens=None,
        amplification="none",
        structure=find_structure(model, "hand"),
        run=model,
        logits=lambda tokens: model(tokens) @ head,
        device=torch.device("cpu"),
        streamed=False,
        gguf=None,
        files={},
        headers={},
    )
    places = tuple(Place(text=0, draw=0, start=index) for index in range(len(ids)))
    windows = Windows(ids=ids, places=places, prefix=())
    return Subject(checkpoint=checkpoint, windows=windows, inputs={})


def shares(model: HandModel) -> dict[str, tuple[float, float]]:
    """Predicted and checked, by amplification."""
    probed = subject(model)
    norms = measure(
        probed.checkpoint.structure, model, IDS, device=torch.device("cpu"), done=lambda: None
    )
    checked = check_amplifications(probed, norms, losses=(0.0, 0.0), done=lambda: None)
    advice = advise(norms, hidden_size=4, already="none", checked=checked)
    return {name: (advice.predicted_share[name], checked[name].share) for name in AMPLIFICATIONS}


def test_writes_that_do_not_see_the_embedding_leave_what_was_predicted() -> None:
    found = shares(HandModel(EMBEDDING, [HandLayer(ATTN, MLP)]))
    for predicted, checked in found.values():
        assert checked == pytest.approx(predicted, rel=1e-5, abs=1e-7)  # of 1, in float32
    assert found["none"][0] < found["scalar"][0]


def test_writes_in_proportion_to_the_embedding_leave_what_was_there() -> None:
    """Attention writes A e whatever s: share(s) = share(1), where the prediction sees s e grow."""
    layer = HandLayer(ATTN, [0.0] * 4)
    layer.self_attn = Linear()  # type: ignore[assignment]
    found = shares(HandModel(EMBEDDING, [layer]))
    for name in ("scalar", "sqrt_d"):
        predicted, checked = found[name]
        assert checked == pytest.approx(found["none"][1], rel=1e-5)
        assert predicted > checked + 0.05


def test_losses_of_the_check_are_those_of_the_amplified_model() -> None:
    model = HandModel(EMBEDDING, [HandLayer(ATTN, MLP)])
    probed = subject(model)
    norms = measure(
        probed.checkpoint.structure, model, IDS, device=torch.device("cpu"), done=lambda: None
    )
    found = check_amplifications(probed, norms, losses=(0.0, 0.0), done=lambda: None)
    twice = HandModel((2 * np.array(EMBEDDING)).tolist(), [HandLayer(ATTN, MLP)])  # sqrt(4)
    for window, loss in zip(IDS, found["sqrt_d"].losses, strict=True):
        logits = twice(torch.from_numpy(window[None]))[0, :, :3].detach()
        each = [
            math.log(sum(math.exp(value) for value in row.tolist())) - float(row[wanted])
            for row, wanted in zip(logits[:-1], window[1:], strict=True)
        ]
        assert loss == pytest.approx(np.mean(each), rel=1e-5)


def test_an_amplification_that_breaks_the_model_is_left_out_of_the_check() -> None:
    model = HandModel((np.array(EMBEDDING) * 1e10).tolist(), [HandLayer(ATTN, MLP)])
    probed = subject(model)
    structure = probed.checkpoint.structure
    norms = measure(structure, model, IDS, device=torch.device("cpu"), done=lambda: None)
    large = replace(norms.first_layer, write_sq=norms.first_layer.embed_sq * 1e40)
    found = check_amplifications(
        probed, replace(norms, first_layer=large), losses=(0.0, 0.0), done=lambda: None
    )
    assert "scalar" not in found
    assert "sqrt_d" in found


def test_hooks_are_gone_after_the_check_even_when_it_fails() -> None:
    model = HandModel(EMBEDDING, [HandLayer(ATTN, MLP)])
    with pytest.raises(NoResultError), amplified(model.embed_tokens, "sqrt_d", 2.0):
        raise NoResultError("stop")
    assert not model.embed_tokens._forward_hooks


def test_the_scalar_is_what_makes_layer_0_write_as_much() -> None:
    model = HandModel(EMBEDDING, [HandLayer(ATTN, MLP)])
    norms = measure(
        find_structure(model, ""), model, IDS, device=torch.device("cpu"), done=lambda: None
    )
    written = np.linalg.norm(np.array(ATTN) + np.array(MLP))
    each = [written / np.linalg.norm(EMBEDDING[token]) for token in IDS[:, 1:].flatten()]
    assert factors(norms.first_layer, 4)["scalar"] == pytest.approx(np.median(each))


def test_layer_norm_takes_every_stream_of_a_row_by_itself() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0, 10.0, 20.0, 60.0]])
    expected = torch.cat([nn.LayerNorm(3)(part) for part in rows.split(3, dim=-1)], dim=-1)  # type: ignore[no-untyped-call]
    assert torch.equal(layer_normed(rows, 3), expected)


@pytest.mark.parametrize(("scale", "told"), [(1.0, "none"), (8.0, "sqrt_d"), (3.0, "scalar")])
def test_gemmas_own_scale_is_seen(scale: float, told: str) -> None:
    embed = nn.Embedding(3, 64)
    embed.embed_scale = nn.Buffer(torch.tensor(scale))
    assert built_in(embed, 64) == told


def test_the_loss_is_of_every_token_but_the_first() -> None:
    """Uniform logits: log V each; 300 tokens are more than one chunk."""
    ids = torch.arange(300).remainder(7)[None]
    assert next_token_loss(torch.zeros(1, 300, 7), ids) == pytest.approx(math.log(7))
    sure = torch.zeros(1, 300, 7)
    sure[0, torch.arange(299), ids[0, 1:]] = 50.0
    assert next_token_loss(sure, ids) == pytest.approx(0.0, abs=1e-6)


def test_a_model_without_its_head_at_hand_is_not_checked() -> None:
    """As a streamed one: one pass, no loss, and the prediction alone."""
    whole = subject(HandModel(EMBEDDING, [HandLayer(ATTN, MLP)]))
    streamed = replace(whole, checkpoint=replace(whole.checkpoint, logits=None))
    assert num_passes(whole, check=True) == 4
    assert num_passes(streamed, check=True) == 1
    inputs = {"model": {"name": "hand"}}
    record = probe_checkpoint(replace(streamed, inputs=inputs), check=True)
    assert record.results["advice"]["checked"] is False
    assert "when this model is run so" not in record.answer
