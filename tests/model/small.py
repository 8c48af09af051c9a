"""Small designs for the tests of model and train_small."""

from dataclasses import replace

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.spec import Amplification, longcat_spec
from tests.designs import policy_of

MODEL = decoder_model(
    DecoderConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        moe_intermediate_size=16,
        num_experts=4,
        num_experts_per_tok=2,
    )
)
SPEC = longcat_spec(
    vocab_size=64,
    max_order=3,
    num_subtables=2,
    table_rows=(157, 163, 167, 169),  # with the projections, exactly two experts per layer
    policy=policy_of(0),
)
DESIGN = Design(model=MODEL, ngrams=(SPEC,))
PLAIN = Design(model=MODEL)


def amplified(amplification: Amplification) -> Design:
    return Design(model=MODEL, ngrams=(replace(SPEC, amplification=amplification),))
