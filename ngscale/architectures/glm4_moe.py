"""GLM-4.5: grouped-query attention, a few dense layers, then shared and routed experts.

Shapes of transformers' ``glm4_moe``; MTP layers as DeepSeek-V3's.
"""

from ngscale.architectures.deepseek_v3 import KEYS, dense_first, mtp_layers, shared_and_routed
from ngscale.architectures.hf_keys import decoder_spec, grouped_attention
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import FeedForward, Layer, ModelSpec

MODEL_TYPES = ("glm4_moe",)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a GLM-4.5 config.json."""
    hidden_size = reader.whole("hidden_size")
    attention = grouped_attention(
        reader,
        qkv_bias=reader.flag("attention_bias"),
        qk_norm="head" if reader.flag("use_qk_norm") else "none",
    )
    ffn = FeedForward(hidden_size=hidden_size, intermediate_size=reader.whole("intermediate_size"))
    norms = 2 * hidden_size
    dense = Layer(attentions=(attention,), ffns=(ffn,), norm_parameters=norms)
    sparse = Layer(
        attentions=(attention,), experts=shared_and_routed(reader), norm_parameters=norms
    )
    return decoder_spec(
        reader,
        dense_first(reader, dense, sparse),
        expert_keys=KEYS,
        mtp_layers=mtp_layers(reader, sparse),
    )
