"""DeepSeek-V2, DeepSeek-V3 and Kimi-K2: MLA, a few dense layers, then shared and routed experts.

Shapes of transformers' ``deepseek_v2`` and ``deepseek_v3``; an MTP layer is one more layer with
``eh_proj`` and three norms (DeepSeek-V3's README_WEIGHTS.md), without the copies of embedding and
head that checkpoints store with it.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import (
    REPEATED_BY_MLA,
    decoder_spec,
    latent_attention,
    routed_experts,
)
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import (
    ExpertKeys,
    Experts,
    FeedForward,
    Layer,
    ModelSpec,
)

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2")
KEYS = ExpertKeys(
    num_experts="n_routed_experts",
    top_k="num_experts_per_tok",
    intermediate_size="moe_intermediate_size",
)
IGNORED = REPEATED_BY_MLA
_MTP_KEYS = ("num_nextn_predict_layers", "num_mtp_layers")


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a DeepSeek-V2, DeepSeek-V3 or Kimi-K2 config.json."""
    is_v2 = reader.model_type == "deepseek_v2"
    hidden_size = reader.whole("hidden_size")
    reader.whole("moe_layer_freq", maximum=1, default=1)
    bias = is_v2 and reader.flag("mlp_bias")
    has_query_rank = reader.values.get("q_lora_rank") is not None
    attention = latent_attention(
        reader, q_lora_rank=reader.whole("q_lora_rank") if has_query_rank else None
    )
    dense = Layer(
        attentions=(attention,),
        ffns=(
            FeedForward(
                hidden_size=hidden_size,
                intermediate_size=reader.whole("intermediate_size"),
                bias=bias,
            ),
        ),
        norm_parameters=2 * hidden_size,
    )
    sparse = Layer(
        attentions=(attention,),
        experts=shared_and_routed(reader, router_biases=0 if is_v2 else 1, shared_bias=bias),
        norm_parameters=2 * hidden_size,
    )
    return decoder_spec(
        reader,
        dense_first(reader, dense, sparse),
        expert_keys=KEYS,
        mtp_layers=() if is_v2 else mtp_layers(reader, sparse),
    )


def shared_and_routed(
    reader: ConfigReader, *, router_biases: int = 1, shared_bias: bool = False
) -> Experts:
    """``n_routed_experts``, and ``n_shared_experts`` stored as one wide expert."""
    hidden_size, width = reader.whole("hidden_size"), reader.whole("moe_intermediate_size")
    num_shared = reader.whole("n_shared_experts", minimum=0)
    shared = FeedForward(
        hidden_size=hidden_size,
        intermediate_size=max(1, num_shared) * width,
        bias=shared_bias,
    )
    routed = routed_experts(reader, KEYS, router_biases=router_biases)
    return replace(routed, shared=(shared,) if num_shared else ())


def dense_first(reader: ConfigReader, dense: Layer, sparse: Layer) -> list[Layer]:
    """``first_k_dense_replace`` dense layers, then sparse ones."""
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    num_dense = reader.whole("first_k_dense_replace", minimum=0, maximum=num_layers)
    return [dense] * num_dense + [sparse] * (num_layers - num_dense)


def mtp_layers(reader: ConfigReader, layer: Layer) -> tuple[tuple[int, Layer], ...]:
    """A layer with ``eh_proj`` [D, 2D] and the norms enorm, hnorm and shared_head.norm."""
    key = reader.one_of(_MTP_KEYS)
    count = 0 if key is None else reader.whole(key, minimum=0)
    if not count:
        return ()
    hidden_size = reader.whole("hidden_size")
    extra = ("mtp", 2 * hidden_size * hidden_size + 3 * hidden_size)
    return ((count, replace(layer, extra=(*layer.extra, extra))),)
