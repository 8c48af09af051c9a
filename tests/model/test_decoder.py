"""The decoder: parameters group by group, the stream, causality, and shared initial weights."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from ngscale.design import Design, read_design
from ngscale.errors import SpecError
from ngscale.model.decoder import Block, Decoder
from ngscale.params import parameter_equivalent_moe, parameter_groups
from ngscale.presets import resolve
from ngscale.tensor_groups import group_of
from tests.designs import decoder_designs
from tests.model.small import DESIGN, PLAIN, amplified


@settings(max_examples=30)
@given(decoder_designs())
def test_every_group_has_the_parameters_that_params_counts(design: Design) -> None:
    with torch.device("meta"):
        decoder = Decoder(design)
    counted: Counter[str] = Counter()
    for name, weight in decoder.named_parameters():
        counted[group_of(name)] += weight.numel()
    assert dict(counted) == {name: n for name, n in parameter_groups(design).items() if n}


def initialised(design: Design, seed: int = 0) -> Decoder:
    decoder = Decoder(design)
    decoder.initialise(seed)
    return decoder.eval()


def blocks(decoder: Decoder) -> list[Block]:
    return [layer for layer in decoder.layers if isinstance(layer, Block)]


def some_tokens() -> Tensor:
    return torch.randint(0, 64, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("design", [DESIGN, PLAIN, amplified("layernorm")])
def test_module_outputs_are_what_the_stream_is_made_of(design: Design) -> None:
    decoder = initialised(design)
    added: list[Tensor] = []
    before_norm: list[Tensor] = []

    def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        added.append(output)

    def record_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before_norm.append(inputs[0])

    decoder.embed_tokens.register_forward_hook(record)
    for layer in blocks(decoder):
        layer.self_attn.register_forward_hook(record)
        layer.mlp.register_forward_hook(record)
    decoder.norm.register_forward_pre_hook(record_input)
    decoder(some_tokens())
    assert len(added) == 1 + 2 * 2
    torch.testing.assert_close(torch.stack(added).sum(0), before_norm[0])


@pytest.mark.parametrize("design", [DESIGN, PLAIN])
def test_later_tokens_do_not_reach_back(design: Design) -> None:
    decoder = initialised(design)
    tokens = some_tokens()
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 64
    before, after = decoder(tokens), decoder(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_positions_matter() -> None:
    decoder = initialised(PLAIN)
    swapped = torch.tensor([[5, 9, 7], [9, 5, 7]])
    logits = decoder(swapped)
    assert not torch.allclose(logits[0, 2], logits[1, 2])


def test_arms_start_equal_wherever_they_share_a_tensor() -> None:
    design, moe = initialised(DESIGN, seed=4), initialised(parameter_equivalent_moe(DESIGN), seed=4)
    shared = design.state_dict()
    num_compared = 0
    for name, weight in moe.state_dict().items():
        if name not in shared:
            continue
        num_compared += 1
        other = shared[name]
        if ".experts." in name or ".gate." in name:
            weight = weight[: len(other)]  # the added experts come after the shared ones
        assert torch.equal(weight, other), name
    assert num_compared == len(moe.state_dict()) - 1  # the plain embedding has another name
    words = design.state_dict()["embed_tokens.word_embeddings.weight"] / 5
    torch.testing.assert_close(words, moe.state_dict()["embed_tokens.weight"])


def test_seeds_differ_and_a_seed_repeats() -> None:
    first, again, other = (initialised(DESIGN, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_another_family_is_refused() -> None:
    with pytest.raises(SpecError, match="only ngscale's own decoder"):
        Decoder(read_design(resolve("qwen3-30b-a3b")))
