"""gpt-oss: biases everywhere, a learned sink a head, every other layer with a window.

Shapes of transformers' ``gpt_oss``.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, routed_experts, windows
from ngscale.architectures.mixtral import KEYS
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import Layer, ModelSpec

MODEL_TYPES = ("gpt_oss",)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a gpt-oss config.json."""
    hidden_size = reader.whole("hidden_size")
    bias = reader.flag("attention_bias", default=True)
    attention = grouped_attention(reader, qkv_bias=bias, o_bias=bias, default_head_dim=64)
    experts = routed_experts(reader, KEYS, bias=True, router_biases=1)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(replace(attention, window=window, num_sinks=attention.num_heads),),
                experts=experts,
                norm_parameters=2 * hidden_size,
            )
            for window in windows(reader, lambda index: index % 2 == 0)
        ),
        expert_keys=KEYS,
    )
