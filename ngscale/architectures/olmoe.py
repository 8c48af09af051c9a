"""OLMoE: norms over all columns of queries and keys, experts in every layer.

Shapes of transformers' ``olmoe``.
"""

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import ExpertKeys, Experts, FeedForward, Layer, ModelSpec

MODEL_TYPES = ("olmoe",)
KEYS = ExpertKeys(
    num_experts="num_experts",
    top_k="num_experts_per_tok",
    intermediate_size="intermediate_size",
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of an OLMoE config.json."""
    hidden_size = reader.whole("hidden_size")
    bias = reader.flag("attention_bias")
    layer = Layer(
        attentions=(grouped_attention(reader, qk_norm="full", qkv_bias=bias, o_bias=bias),),
        experts=Experts(
            expert=FeedForward(
                hidden_size=hidden_size, intermediate_size=reader.whole("intermediate_size")
            ),
            num_experts=reader.whole("num_experts"),
            top_k=reader.whole("num_experts_per_tok"),
        ),
        norm_parameters=2 * hidden_size,
    )
    return decoder_spec(reader, [layer] * reader.whole("num_hidden_layers"), expert_keys=KEYS)
