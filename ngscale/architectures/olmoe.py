"""OLMoE: norms over all columns of queries and keys, experts in every layer.

Shapes of transformers' ``olmoe``.
"""

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, routed_experts
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import ExpertKeys, Layer, ModelSpec

MODEL_TYPES = ("olmoe",)
KEYS = ExpertKeys(
    num_experts="num_experts",
    top_k="num_experts_per_tok",
    intermediate_size="intermediate_size",
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of an OLMoE config.json."""
    bias = reader.flag("attention_bias")
    layer = Layer(
        attentions=(grouped_attention(reader, qk_norm="full", qkv_bias=bias, o_bias=bias),),
        experts=routed_experts(reader, KEYS),
        norm_parameters=2 * reader.whole("hidden_size"),
    )
    return decoder_spec(
        reader, [layer] * reader.whole("num_hidden_layers", maximum=MAX_LISTED), expert_keys=KEYS
    )
