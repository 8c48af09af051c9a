"""Random small decoders of transformers' families: what is hooked is all that is added."""

import numpy as np
import pytest
import torch

from ngscale.errors import NoResultError
from ngscale.probe.norms import StreamNorms, measure
from ngscale.probe.stream import Stream
from ngscale.probe.structure import Write, find_structure
from tests.probe.models import VOCAB_SIZE, random_model

IDS = 3 + (np.arange(60).reshape(2, 30) * 7) % (VOCAB_SIZE - 3)  # 0 is padding, its row zero


def probe(family: str) -> StreamNorms:
    structure = find_structure(random_model(family), family)

    def run(ids: torch.Tensor) -> object:
        return structure.backbone(input_ids=ids, use_cache=False)

    return measure(structure, run, IDS, device=torch.device("cpu"), done=lambda: None)


PRE_NORM = ("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "olmo", "olmoe", "phi3")
OTHERS = ("deepseek_v3", "gpt_oss", "gpt_neox_sequential")
POST_NORM = ("gemma2", "gemma3", "olmo2", "glm4")


@pytest.mark.parametrize("family", PRE_NORM + OTHERS + POST_NORM)
def test_attention_then_mlp_closes_exactly_at_every_read(family: str) -> None:
    norms = probe(family)
    assert norms.closure.max_relative_error == 0.0
    assert norms.closure.checks == 3 + 3 + 1  # inputs of 3 layers, reads of 3 MLPs, final norm
    assert [(s.name, s.added_to) for s in norms.sublayers[:3]] == [
        ("L0_attn_out", "L0_resid_pre"),
        ("L0_mlp_out", "L0_resid_mid"),
        ("L1_attn_out", "L1_resid_pre"),
    ]


@pytest.mark.parametrize(("family", "checks"), [("gpt_neox", 7), ("cohere", 4)])
def test_parallel_mlps_are_added_to_the_layers_input(family: str, checks: int) -> None:
    """Cohere has one norm for both, so that nothing tells apart what its MLP reads."""
    norms = probe(family)
    assert norms.closure.max_relative_error <= 1e-6
    assert norms.closure.checks == checks
    attention, mlp = norms.sublayers[:2]
    assert (mlp.name, mlp.added_to) == ("L0_mlp_out", "L0_resid_pre")
    assert mlp.stream.tolist() == attention.stream.tolist()


def test_gpt_2s_positions_are_a_write_of_their_own() -> None:
    model = random_model("gpt2")
    norms = probe("gpt2")
    positions, attention = norms.sublayers[:2]
    assert (positions.name, positions.added_to) == ("pos_embed", "embed")
    words = model.get_parameter("transformer.wte.weight")[torch.from_numpy(IDS)].detach()
    assert norms.embed == pytest.approx(words.norm(dim=-1).numpy(), rel=1e-6)
    added = model.get_parameter("transformer.wpe.weight")[: IDS.shape[1]].detach()
    assert positions.write == pytest.approx(added.norm(dim=-1).expand(2, -1).numpy(), rel=1e-6)
    assert attention.stream == pytest.approx((words + added).norm(dim=-1).numpy(), rel=1e-6)
    assert norms.closure.max_relative_error == 0.0


def test_shortcut_blocks_have_the_papers_names_and_the_experts_own_write() -> None:
    norms = probe("longcat_flash")
    assert norms.closure.max_relative_error == 0.0
    assert [s.name for s in norms.sublayers] == [
        f"L{layer}_{part}" for layer in (1, 2) for part in ("attn0", "mlp0", "attn1", "mlp1", "moe")
    ]
    added_to = [s.added_to.removeprefix("L1_resid_") for s in norms.sublayers[:5]]
    assert added_to == ["pre", "mid0", "post0", "mid1", "post1"]


def test_hyper_connections_close_in_every_stream() -> None:
    """Qwen3.8: writes are weighted per stream, n-grams enter before the attention of layer 0."""
    norms = probe("qwen4_exp")
    assert norms.closure.max_relative_error == 0.0
    assert [s.name for s in norms.sublayers[:3]] == ["L0_ngram", "L0_attn_out", "L0_mlp_out"]
    for sublayer in norms.sublayers:
        assert sublayer.ratio_by_stream is not None
        assert sublayer.ratio_by_stream.shape == (*IDS.shape, 4)
    # Four streams that all start as the embedding: the row is twice as long.
    assert norms.sublayers[0].stream == pytest.approx(2 * norms.embed, rel=1e-6)


@pytest.mark.parametrize("family", ["qwen4_exp", "longcat_flash", "gemma3"])
def test_a_write_that_is_not_what_was_added_fails(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part in a thousand of the last layer's MLP is enough."""
    real, last = Stream.add, find_structure(random_model(family), "").writes[-1]

    def add(self: Stream, write: Write, out: torch.Tensor, injected: torch.Tensor | None) -> None:
        real(self, write, out * (1.001 if write.name == last.name else 1), injected)

    monkeypatch.setattr(Stream, "add", add)
    with pytest.raises(NoResultError, match="closure fails at the input of the final norm"):
        probe(family)
