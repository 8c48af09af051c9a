"""Designs for property tests."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ngscale.architectures.ngscale_moe import DecoderConfig, Yarn, decoder_model
from ngscale.design import Design
from ngscale.model_spec import NgramGate
from ngscale.ngram_params import table_width
from ngscale.policy import Policy, mode_policy
from ngscale.spec import NgramSpec, PolynomialHash, longcat_spec


def policy_of(boundary: int | None) -> Policy:
    """HF's policy, or none of its resets."""
    return mode_policy("no_eos" if boundary is None else "hf", boundary)


@st.composite
def decoder_configs(draw: st.DrawFn) -> DecoderConfig:
    """Small decoders of both blocks and both attentions."""
    size = st.integers(1, 64)
    num_key_value_heads = draw(st.integers(1, 4))
    num_experts, num_zero_experts = draw(st.integers(1, 32)), draw(st.integers(0, 4))
    is_shortcut, is_latent = draw(st.booleans()), draw(st.booleans())
    latent: dict[str, Any] = {
        "q_lora_rank": draw(size),
        "kv_lora_rank": draw(size),
        "qk_nope_head_dim": draw(size),
        "qk_rope_head_dim": 2 * draw(size),
        "v_head_dim": draw(size),
    }
    return DecoderConfig(
        vocab_size=draw(st.integers(2, 5000)),
        hidden_size=draw(st.integers(12, 512)),
        num_hidden_layers=draw(st.integers(1, 8)),
        num_attention_heads=num_key_value_heads * draw(st.integers(1, 4)),
        num_key_value_heads=num_key_value_heads,
        head_dim=2 * draw(size),
        moe_intermediate_size=draw(size),
        num_experts=num_experts,
        num_experts_per_tok=draw(st.integers(1, num_experts)),
        block="shortcut" if is_shortcut else "standard",
        intermediate_size=draw(st.integers(12, 64)) if is_shortcut else 0,
        num_zero_experts=num_zero_experts,
        num_shared_experts=draw(st.integers(0, 2)),
        scoring_func=draw(st.sampled_from(["sigmoid", "softmax"])),
        norm_topk_prob=draw(st.booleans()),
        routed_scaling_factor=draw(st.sampled_from([1.0, 2.5])),
        router_bias=draw(st.booleans()),
        router_aux_loss_coef=draw(st.sampled_from([0.0, 0.01])),
        rope_scaling=draw(
            st.none() | st.just(Yarn(factor=10.0, original_max_position_embeddings=64))
        ),
        attention="mla" if is_latent else "gqa",
        **(latent if is_latent else {}),
    )


@st.composite
def decoder_designs(draw: st.DrawFn) -> Design:
    """Small decoders, most of them with LongCat's tables at the input."""
    model = decoder_model(draw(decoder_configs()))
    if draw(st.booleans()):
        return Design(model=model)
    max_order, num_subtables = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    rows = st.integers(1, 10**6)
    num_tables = (max_order - 1) * num_subtables
    spec = longcat_spec(
        vocab_size=model.vocab_size,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=tuple(draw(st.lists(rows, min_size=num_tables, max_size=num_tables))),
        policy=policy_of(draw(st.none() | st.integers(0, model.vocab_size - 1))),
        amplification=draw(st.sampled_from(["none", "sqrt_d", "layernorm"])),
    )
    return Design(model=model, ngrams=(spec,))


def ple_spec(vocab_size: int, layer: int) -> NgramSpec:
    """PLE (arXiv:2601.21204 Eq. 4): a word table in the dense block of one layer."""
    return NgramSpec(
        hash=PolynomialHash(base=vocab_size),
        vocab_size=vocab_size,
        table_orders=(1,),
        table_rows=(vocab_size,),
        policy=policy_of(None),
        fusion="added",
        word_scale="none",
        layers=(layer,),
        placement="ple",
    )


@st.composite
def placed_designs(draw: st.DrawFn) -> Design:
    """Decoders with any fusion at the input, Engram in layers, PLE and PLNE in dense blocks."""
    config = draw(decoder_configs())
    V, D = config.vocab_size, config.hidden_size
    rows = draw(st.lists(st.integers(1, 1000), min_size=2, max_size=2).map(tuple))
    plain = longcat_spec(
        vocab_size=V, max_order=3, num_subtables=1, table_rows=rows, policy=policy_of(None)
    )
    plain = replace(
        plain,
        row_multiple=draw(st.sampled_from([1, 16])),
        padded_together=draw(st.booleans()),
        row_width=draw(st.none() | st.integers(1, 8)),
    )
    undivided = replace(plain, word_scale="none")
    amplified: dict[str, Any] = {
        "amplification": draw(st.sampled_from(["none", "scalar", "layernorm"])),
        "word_scale": draw(st.sampled_from(["mean", "sqrt_mean", "sum_only", "none"])),
    }
    factor = 3.5 if amplified["amplification"] == "scalar" else 1.0
    at_input = draw(
        st.sampled_from(
            [
                replace(plain, **amplified, amplification_factor=factor),
                replace(plain, fusion="sum"),
                replace(plain, fusion="added", row_width=D),
                replace(undivided, fusion="concat"),
                replace(undivided, fusion="concat_rows"),
                None,
            ]
        )
    )
    specs = [] if at_input is None else [at_input]
    kernels = [0] * len(specs)
    for layer in range(config.num_hidden_layers):
        if draw(st.booleans()):
            gated = replace(undivided, fusion="gated", layers=(layer,), row_width=3)
            specs.append(gated)
            kernels.append(draw(st.sampled_from([0, 4])))
        if config.block == "shortcut" and draw(st.booleans()):
            per_layer = replace(plain, placement="plne", layers=(layer,))
            specs.append(draw(st.sampled_from([ple_spec(V, layer), per_layer])))
            kernels.append(0)
    gates = tuple(
        NgramGate(
            hidden_size=D, joint_width=spec.num_tables * table_width(spec, D), conv_kernel=kernel
        )
        for spec, kernel in zip(specs, kernels, strict=True)
    )
    return Design(
        model=decoder_model(config),
        ngrams=tuple(specs),
        gates=gates if any(spec.fusion == "gated" for spec in specs) else (),
    )
