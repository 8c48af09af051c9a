"""Qwen3-MoE: grouped-query attention with norms of heads, experts in all layers but some.

Shapes of transformers' ``qwen3_moe``.
"""

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, routed_experts, windows
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import ExpertKeys, FeedForward, Layer, ModelSpec

MODEL_TYPES = ("qwen3_moe",)
_NUM_EXPERTS = ("num_experts", "num_local_experts")
"""As released, and as transformers 5 writes it."""


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a Qwen3-MoE config.json."""
    hidden_size = reader.whole("hidden_size")
    bias = reader.flag("attention_bias")
    ffn = FeedForward(hidden_size=hidden_size, intermediate_size=reader.whole("intermediate_size"))
    keys = expert_keys(reader)
    experts = routed_experts(reader, keys)
    slides = reader.flag("use_sliding_window")
    is_sparse = sparse_layers(reader)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(
                    grouped_attention(
                        reader, window=window, qk_norm="head", qkv_bias=bias, o_bias=bias
                    ),
                ),
                ffns=() if sparse else (ffn,),
                experts=experts if sparse else None,
                norm_parameters=2 * hidden_size,
            )
            for window, sparse in zip(windows(reader, lambda _: slides), is_sparse, strict=True)
        ),
        expert_keys=keys,
    )


def expert_keys(reader: ConfigReader) -> ExpertKeys:
    """What this config calls the number of experts."""
    return ExpertKeys(
        num_experts=reader.one_of(_NUM_EXPERTS) or _NUM_EXPERTS[0],
        top_k="num_experts_per_tok",
        intermediate_size="moe_intermediate_size",
    )


def sparse_layers(reader: ConfigReader) -> list[bool]:
    """Whether each layer has experts: every ``decoder_sparse_step``-th, ``mlp_only_layers`` not."""
    step = reader.whole("decoder_sparse_step", default=1)
    dense = reader.wholes("mlp_only_layers", minimum=0, default=())
    return [
        index not in dense and (index + 1) % step == 0
        for index in range(reader.whole("num_hidden_layers", maximum=MAX_LISTED))
    ]
