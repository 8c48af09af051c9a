"""Small designs for the tests of model and train_small."""

from dataclasses import replace

import pytest

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.model_spec import NgramGate
from ngscale.spec import Amplification, longcat_spec
from tests.designs import ple_spec, policy_of

CONFIG = DecoderConfig(
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
SHORTCUT_CONFIG = replace(
    CONFIG,
    block="shortcut",
    intermediate_size=24,
    num_zero_experts=2,
    num_shared_experts=1,
    scoring_func="softmax",
    norm_topk_prob=False,
    routed_scaling_factor=2.0,
)
MODEL = decoder_model(CONFIG)
SPEC = longcat_spec(
    vocab_size=64,
    max_order=3,
    num_subtables=2,
    table_rows=(157, 163, 167, 169),  # with the projections, exactly two experts per layer
    policy=policy_of(0),
)
DESIGN = Design(model=MODEL, ngrams=(SPEC,))
PLAIN = Design(model=MODEL)
SHORTCUT = Design(model=decoder_model(SHORTCUT_CONFIG), ngrams=(SPEC,))
GATED_SPEC = replace(SPEC, fusion="gated", word_scale="none", layers=(1,), row_width=5)
GATED = Design(
    model=MODEL,
    ngrams=(SPEC, GATED_SPEC),
    gates=(
        NgramGate(hidden_size=32, joint_width=32),
        NgramGate(hidden_size=32, joint_width=20, conv_kernel=4),
    ),
)
PLE = Design(model=SHORTCUT.model, ngrams=(ple_spec(64, 0), ple_spec(64, 1)))
PLNE = Design(
    model=SHORTCUT.model,
    ngrams=(
        replace(SPEC, placement="plne", layers=(0,)),
        replace(SPEC, placement="plne", layers=(1,), table_rows=(57, 63, 67, 69)),
    ),
)


def amplified(amplification: Amplification) -> Design:
    return Design(model=MODEL, ngrams=(replace(SPEC, amplification=amplification),))


INDUCTOR_WARNS = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning:torch",
    "ignore:.*autograd.function.Function.*instantiated:DeprecationWarning",
)
"""Of its own use of a deprecated function, and of its own way to trace one of ours."""
