"""The decoder: parameters group by group, the stream, causality, and shared initial weights."""

import math
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional

from ngscale.architectures.ngscale_moe import decoder_model
from ngscale.design import Design, read_design
from ngscale.errors import SpecError
from ngscale.hashing.definition import row_ids_exact
from ngscale.model import NgramEmbedding, NgramReader
from ngscale.model.decoder import Block, Decoder, ShortcutBlock
from ngscale.model.feed_forward import EmbeddedFeedForward
from ngscale.params import parameter_equivalent_moe, parameter_groups
from ngscale.presets import resolve
from ngscale.spec import NgramSpec
from ngscale.tensor_groups import group_of
from tests.designs import decoder_designs, placed_designs, ple_spec
from tests.model import plain
from tests.model.small import (
    CONFIG,
    DESIGN,
    GATED,
    GATED_SPEC,
    INDUCTOR_WARNS,
    MODEL,
    PLAIN,
    PLE,
    PLNE,
    SHORTCUT,
    SPEC,
    amplified,
)


@settings(max_examples=60)
@given(decoder_designs() | placed_designs())
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


@pytest.mark.parametrize(
    "design",
    [
        DESIGN,
        PLAIN,
        SHORTCUT,
        Design(model=decoder_model(replace(CONFIG, num_shared_experts=2, num_zero_experts=1))),
    ],
)
def test_logits_equal_a_plain_implementation(design: Design) -> None:
    decoder = initialised(design)
    if isinstance(decoder.embed_tokens, NgramEmbedding):
        nn.init.normal_(decoder.embed_tokens.tables.weight)
    tokens = some_tokens()
    with torch.no_grad():
        out, start = decoder(tokens), decoder.embed_tokens(tokens)
        state = decoder.state_dict()
        for b in range(2):
            expected = plain.logits(state, start[b], decoder.config)
            torch.testing.assert_close(out[b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("design", [PLE, PLNE])
def test_dense_blocks_multiply_by_the_embedding_of_their_layer(design: Design) -> None:
    """arXiv:2601.21204 Eq. 4 and 5: W_d( SiLU(W_g x) . e(t) ), e of each layer's own."""
    decoder = initialised(design)
    tokens = some_tokens()
    for layer in decoder.layers:
        assert isinstance(layer, ShortcutBlock)
        block = layer.mlps[0]
        assert isinstance(block, EmbeddedFeedForward)
        embedding = block.embedding
        if isinstance(embedding, NgramEmbedding):
            nn.init.normal_(embedding.tables.weight)
        x = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(0))
        gate = functional.silu(x @ block.gate_proj.weight.T)
        expected = (gate * embedding(tokens)) @ block.down_proj.weight.T
        torch.testing.assert_close(block(x, tokens), expected)
        if not isinstance(embedding, NgramEmbedding):
            weight = embedding.get_parameter("weight")
            assert torch.equal(embedding(tokens), weight[tokens])


@pytest.mark.parametrize("design", [PLE, PLNE])
def test_an_embedding_starts_with_the_size_of_the_up_projection_it_stands_for(
    design: Design,
) -> None:
    """Normalised inputs and columns of variance 1/D: the up-projection has variance 1."""
    tokens = some_tokens()
    with_embedding, usual = initialised(design), initialised(SHORTCUT)
    for layer, other in zip(with_embedding.layers, usual.layers, strict=True):
        assert isinstance(layer, ShortcutBlock)
        assert isinstance(other, ShortcutBlock)
        embedding = layer.mlps[0].get_submodule("embedding")(tokens)
        x = functional.rms_norm(torch.randn(500, 32), (32,))
        up = other.mlps[0].get_submodule("up_proj")(x)
        assert embedding.std().item() == pytest.approx(up.std().item(), rel=0.1)


def test_an_engram_reader_adds_what_its_formula_says() -> None:
    """arXiv:2601.07372 with the released code's signed root, and the convolution tap by tap."""
    decoder = initialised(GATED)
    reader = decoder.layers[1].get_submodule("ngram")
    assert isinstance(reader, NgramReader)
    for weight in reader.parameters():
        nn.init.normal_(weight, std=0.5)
    tokens = some_tokens()
    stream = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(0))
    out = reader(stream, tokens)
    state = reader.state_dict()
    reader.requires_grad_(False)
    for b in range(2):
        ids = row_ids_exact(tokens[b].tolist(), GATED_SPEC)
        values = []
        for p in range(20):
            e = torch.cat([reader.table(i)[ids[p][i]] for i in range(4)])
            key = plain.rms(state["key_proj.weight"] @ e, state["norm_key.weight"], 1e-6)
            query = plain.rms(stream[b, p], state["norm_query.weight"], 1e-6)
            score = float(key @ query) / math.sqrt(32)
            root = math.copysign(math.sqrt(max(abs(score), 1e-6)), score)
            values.append(torch.sigmoid(torch.tensor(root)) * (state["value_proj.weight"] @ e))
        normed = [plain.rms(value, state["norm_conv.weight"], 1e-6) for value in values]
        for p in range(20):
            mixed = torch.zeros(32)
            for tap in range(4):
                back = p - 3 * (3 - tap)  # dilated by the longest order, 3
                if back >= 0:
                    mixed += state["conv1d.weight"][:, 0, tap] * normed[back]
            expected = values[p] + functional.silu(mixed)
            torch.testing.assert_close(out[b, p], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("design", [GATED, PLNE])
def test_every_table_in_layers_learns_from_the_first_gradient(design: Design) -> None:
    decoder = initialised(design).train()
    tokens = some_tokens()
    decoder(tokens[:, :-1], tokens[:, 1:]).backward()
    tables = [w for name, w in decoder.named_parameters() if "tables" in name]
    assert len(tables) == 2
    for table in tables:
        assert table.grad is not None
        assert table.grad.abs().sum() > 0


def test_engram_changes_nothing_at_first() -> None:
    plain_start = initialised(replace(GATED, ngrams=GATED.ngrams[:1], gates=()))
    torch.testing.assert_close(initialised(GATED)(some_tokens()), plain_start(some_tokens()))


@pytest.mark.parametrize("design", [DESIGN, SHORTCUT, GATED, PLE, PLNE])
def test_a_loss_is_the_cross_entropy_of_the_logits(design: Design) -> None:
    decoder = initialised(design)
    tokens = some_tokens()
    loss = decoder(tokens[:, :-1], tokens[:, 1:])
    logits = decoder(tokens[:, :-1]).flatten(0, 1)
    expected = functional.cross_entropy(logits, tokens[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    weights = list(decoder.parameters())
    gradients = [
        torch.autograd.grad(x, weights, allow_unused=True, materialize_grads=True)
        for x in (loss, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_the_balance_loss_is_asked_for_by_its_coefficient() -> None:
    tokens = some_tokens()
    decoder = initialised(PLAIN).train()
    decoder(tokens)
    assert decoder.balance_loss() == 0
    model = decoder_model(replace(CONFIG, router_aux_loss_coef=0.5))
    decoder = initialised(Design(model=model)).train()
    decoder(tokens)
    routers = list(decoder.routers())
    expected = 0.5 * sum(one.balance_loss for one in routers if one.balance_loss is not None)
    torch.testing.assert_close(decoder.balance_loss(), expected)
    decoder.balance_loss().backward()  # type: ignore[no-untyped-call]
    assert routers[0].weight.grad is not None


@pytest.mark.parametrize("design", [DESIGN, SHORTCUT, GATED, PLNE])
def test_under_autocast_logits_are_close(design: Design) -> None:
    decoder = initialised(design)
    tokens = some_tokens()
    expected = decoder(tokens, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        loss = decoder(tokens, tokens)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("design", [DESIGN, SHORTCUT, GATED, PLNE])
def test_no_forward_reads_a_value_on_a_device(design: Design) -> None:
    """On the meta device, as on CUDA, whoever asks for a value is stopped."""
    with torch.device("meta"):
        decoder = Decoder(design)
        tokens = torch.zeros(2, 9, dtype=torch.long)
        assert decoder(tokens).shape == (2, 9, 64)


@INDUCTOR_WARNS
@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_it_compiles() -> None:
    decoder = initialised(SHORTCUT).train()
    tokens = some_tokens()
    compiled = torch.compile(decoder)
    losses = [compiled(tokens, tokens), decoder(tokens, tokens)]
    torch.testing.assert_close(*losses)
    weights = [w for name, w in decoder.named_parameters()]
    gradients = [torch.autograd.grad(loss, weights) for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("design", [DESIGN, SHORTCUT, GATED, PLNE])
def test_on_a_gpu_a_step_in_bfloat16_makes_no_host_sync(design: Design) -> None:
    decoder = initialised(design).cuda().train()
    tokens = some_tokens().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            loss = decoder(tokens, tokens)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = initialised(design)(some_tokens(), some_tokens())
    torch.testing.assert_close(loss.cpu(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("ngrams", "message"),
    [
        ((GATED_SPEC,), "with its gate"),
        ((replace(GATED_SPEC, layers=(2,)),), "2 is not below 2"),
        ((SPEC, SPEC), "share a place"),
        ((replace(SPEC, layers=(0,)),), "fusion must be gated"),
    ],
)
def test_tables_without_a_place_are_refused(ngrams: tuple[NgramSpec, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Decoder(Design(model=MODEL, ngrams=ngrams))


def test_a_standard_block_has_no_place_for_ple() -> None:
    with pytest.raises(SpecError, match="no dense block"):
        Design(model=MODEL, ngrams=(ple_spec(64, 0),))


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
