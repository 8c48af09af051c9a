"""LongCat-Flash's config.json as the keys of ngscale's decoder."""

from ngscale.architectures.ngscale_moe import DecoderConfig, read_yarn
from ngscale.config_reader import ConfigReader
from ngscale.errors import SpecError
from ngscale.model_spec import LatentAttention, ModelSpec
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat
from ngscale.params import moe_of

_DEFAULT_THETA = 10_000_000.0
"""LongCat-Flash's rope_theta where the config has none (``configuration_longcat_flash.py``)."""


def decoder_keys(model: ModelSpec) -> DecoderConfig:
    """The decoder that computes what the model computes.

    Raises:
        InputError, SpecError: it is neither ngscale's own decoder nor a LongCat-Flash, or one with
            parts that are not built here.
    """
    reader = ConfigReader(model.config, model.model_type)
    if model.model_type == DECODER_MODEL_TYPE or not is_longcat(reader):
        return DecoderConfig.of(model)
    layer = model.layers[0][1]
    experts, attention = moe_of(model), layer.attentions[0]
    if not isinstance(attention, LatentAttention) or attention.indexer or attention.bias:
        raise SpecError("index_n_heads, attention_bias: sparse or biased attention is not built")
    if attention.q_lora_rank is None or reader.flag("router_bias"):
        raise SpecError("q_lora_rank null, router_bias true: not built")
    return DecoderConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=attention.num_heads,
        num_key_value_heads=attention.num_heads,
        head_dim=attention.qk_nope_head_dim + attention.qk_rope_head_dim,
        moe_intermediate_size=experts.expert.intermediate_size,
        num_experts=experts.num_experts,
        num_experts_per_tok=experts.top_k,
        rope_theta=_rope_theta(reader),
        rms_norm_eps=reader.number("rms_norm_eps", default=1e-5),
        block="shortcut",
        intermediate_size=layer.ffns[0].intermediate_size,
        num_zero_experts=experts.num_zero_experts,
        scoring_func="softmax",
        norm_topk_prob=reader.flag("norm_topk_prob"),
        routed_scaling_factor=reader.number("routed_scaling_factor", default=1.0),
        attention="mla",
        q_lora_rank=attention.q_lora_rank,
        kv_lora_rank=attention.kv_lora_rank,
        qk_nope_head_dim=attention.qk_nope_head_dim,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        v_head_dim=attention.v_head_dim,
        rope_scaling=read_yarn(reader, "rope_parameters") or read_yarn(reader, "rope_scaling"),
        mla_scale_lora=reader.flag("mla_scale_q_lora", default=True),
    )


def _rope_theta(reader: ConfigReader) -> float:
    """``rope_theta``, or where transformers 5 keeps it."""
    if reader.values.get("rope_parameters"):
        rope = reader.object("rope_parameters")
        if "rope_theta" in rope.values:
            return rope.number("rope_theta")
    return reader.number("rope_theta", default=_DEFAULT_THETA)
