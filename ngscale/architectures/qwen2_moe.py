"""Qwen2-MoE (Qwen1.5-MoE): biases on queries, keys and values, a gated shared expert.

Shapes of transformers' ``qwen2_moe``.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, routed_experts, windows
from ngscale.architectures.qwen3_moe import expert_keys, sparse_layers
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import Experts, FeedForward, Layer, ModelSpec

MODEL_TYPES = ("qwen2_moe",)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a Qwen2-MoE config.json."""
    hidden_size = reader.whole("hidden_size")
    bias = reader.flag("qkv_bias", default=True)
    ffn = FeedForward(hidden_size=hidden_size, intermediate_size=reader.whole("intermediate_size"))
    experts = shared_experts(reader)
    last = reader.whole("max_window_layers", minimum=0, default=28)
    slides = reader.flag("use_sliding_window")
    of_layers = windows(reader, lambda index: slides and index % 2 == 0 and index < last)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(grouped_attention(reader, window=window, qkv_bias=bias),),
                ffns=() if sparse else (ffn,),
                experts=experts if sparse else None,
                norm_parameters=2 * hidden_size,
            )
            for window, sparse in zip(of_layers, sparse_layers(reader), strict=True)
        ),
        expert_keys=expert_keys(reader),
    )


def shared_experts(reader: ConfigReader) -> Experts:
    """Routed experts and one that is always on, with a gate of its own."""
    shared = FeedForward(
        hidden_size=reader.whole("hidden_size"),
        intermediate_size=reader.whole("shared_expert_intermediate_size"),
    )
    return replace(routed_experts(reader, expert_keys(reader)), shared=(shared,), shared_gate=True)
