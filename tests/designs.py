"""Designs for property tests."""

from hypothesis import strategies as st

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.policy import Policy, mode_policy
from ngscale.spec import longcat_spec


def policy_of(boundary: int | None) -> Policy:
    """HF's policy, or none of its resets."""
    return mode_policy("no_eos" if boundary is None else "hf", boundary)


@st.composite
def decoder_designs(draw: st.DrawFn) -> Design:
    """Small decoders, most of them with tables."""
    size = st.integers(1, 64)
    num_key_value_heads = draw(st.integers(1, 4))
    num_experts = draw(st.integers(1, 32))
    model = decoder_model(
        DecoderConfig(
            vocab_size=draw(st.integers(2, 5000)),
            hidden_size=draw(st.integers(12, 512)),
            num_hidden_layers=draw(st.integers(1, 8)),
            num_attention_heads=num_key_value_heads * draw(st.integers(1, 4)),
            num_key_value_heads=num_key_value_heads,
            head_dim=2 * draw(size),
            moe_intermediate_size=draw(size),
            num_experts=num_experts,
            num_experts_per_tok=draw(st.integers(1, num_experts)),
        )
    )
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
