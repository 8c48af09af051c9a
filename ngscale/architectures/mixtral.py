"""Mixtral and MiniMax-M2: grouped-query attention, experts in every layer.

Shapes of transformers' modeling files of the same names.
"""

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, routed_experts, windows
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import ExpertKeys, Layer, ModelSpec

MODEL_TYPES = ("mixtral", "minimax_m2")
KEYS = ExpertKeys(
    num_experts="num_local_experts",
    top_k="num_experts_per_tok",
    intermediate_size="intermediate_size",
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a Mixtral or MiniMax-M2 config.json."""
    is_minimax = reader.model_type == "minimax_m2"
    hidden_size = reader.whole("hidden_size")
    # MiniMax-M2's is e_score_correction_bias
    experts = routed_experts(reader, KEYS, router_biases=int(is_minimax))
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(
                    grouped_attention(
                        reader, window=window, qk_norm="full" if is_minimax else "none"
                    ),
                ),
                experts=experts,
                norm_parameters=2 * hidden_size,
            )
            for window in windows(reader, lambda _: True)
        ),
        expert_keys=KEYS,
    )
