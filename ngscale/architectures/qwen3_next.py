"""Qwen3-Next: gated delta nets with full attention every fourth layer, many small experts.

Shapes of transformers' ``qwen3_next``. The released checkpoint's MTP layer is not counted: no key
of config.json tells of it.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention
from ngscale.architectures.qwen2_moe import shared_experts
from ngscale.architectures.qwen3_moe import expert_keys, sparse_layers
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import FeedForward, GroupedAttention, Layer, LinearAttention, ModelSpec

MODEL_TYPES = ("qwen3_next",)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a Qwen3-Next config.json."""
    hidden_size = reader.whole("hidden_size")
    ffn = FeedForward(hidden_size=hidden_size, intermediate_size=reader.whole("intermediate_size"))
    experts = shared_experts(reader)
    linear, full = delta_net(reader), gated_attention(reader)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(linear if is_linear else full,),
                ffns=() if sparse else (ffn,),
                experts=experts if sparse else None,
                norm_parameters=2 * hidden_size,
            )
            for is_linear, sparse in zip(linear_layers(reader), sparse_layers(reader), strict=True)
        ),
        expert_keys=expert_keys(reader),
    )


def gated_attention(reader: ConfigReader) -> GroupedAttention:
    """With norms of heads and a gate for every column of the output, within ``q_proj``."""
    bias = reader.flag("attention_bias")
    attention = grouped_attention(
        reader, qk_norm="head", qkv_bias=bias, o_bias=bias, default_head_dim=256
    )
    return replace(attention, gate_dim=attention.query_dim)


def delta_net(reader: ConfigReader) -> LinearAttention:
    """The ``linear_*`` keys."""
    return LinearAttention(
        hidden_size=reader.whole("hidden_size"),
        num_key_heads=reader.whole("linear_num_key_heads"),
        num_value_heads=reader.whole("linear_num_value_heads"),
        key_head_dim=reader.whole("linear_key_head_dim"),
        value_head_dim=reader.whole("linear_value_head_dim"),
        conv_kernel=reader.whole("linear_conv_kernel_dim"),
    )


def linear_layers(reader: ConfigReader) -> list[bool]:
    """Whether each layer is linear: ``layer_types``, else all but every
    ``full_attention_interval``-th.
    """
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    names = ("linear_attention", "full_attention", "indexed_attention")
    types = reader.words("layer_types", names, num_layers)
    if types is not None:
        return [name == "linear_attention" for name in types]
    interval = reader.whole("full_attention_interval", default=4)
    return [(index + 1) % interval != 0 for index in range(num_layers)]
