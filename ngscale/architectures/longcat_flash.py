"""LongCat-Flash: each shortcut layer has two attention and two dense sub-layers and one MoE.

Shapes of the released checkpoints (LongCat-Flash-Lite's safetensors, total 68,562,465,024) and of
transformers' ``longcat_flash``.
"""

from ngscale.architectures.hf_keys import (
    REPEATED_BY_MLA,
    decoder_spec,
    latent_attention,
    routed_experts,
)
from ngscale.config_reader import MAX_LISTED, ConfigReader, told
from ngscale.model_spec import (
    ExpertKeys,
    FeedForward,
    Indexer,
    Layer,
    ModelSpec,
)
from ngscale.ngram_config import LONGCAT_MODEL_TYPES

MODEL_TYPES = LONGCAT_MODEL_TYPES
KEYS = ExpertKeys(
    num_experts="n_routed_experts", top_k="moe_topk", intermediate_size="expert_ffn_hidden_size"
)
IGNORED = REPEATED_BY_MLA


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a LongCat-Flash config.json.

    Raises:
        InputError, SpecError: names the key, its value and what is expected.
    """
    if "text_vocab_size" in reader.values:
        raise reader.fail(
            "text_vocab_size", "a joint vocabulary's embedding and lm_head are not counted here"
        )
    hidden_size = reader.whole("hidden_size")
    rank = reader.whole("q_lora_rank")
    attention = latent_attention(reader, q_lora_rank=rank)
    indexed = latent_attention(reader, q_lora_rank=rank, indexer=_indexer(reader))
    ffn = FeedForward(hidden_size=hidden_size, intermediate_size=reader.whole("ffn_hidden_size"))
    experts = routed_experts(
        reader,
        KEYS,
        num_zero_experts=reader.whole("zero_expert_num", minimum=0, default=0),
        router_biases=1 + reader.flag("router_bias"),
    )
    layer = Layer(
        attentions=(indexed, attention),
        ffns=(ffn, ffn),
        experts=experts,
        norm_parameters=4 * hidden_size,
    )
    mtp = Layer(
        attentions=(attention,),
        ffns=(ffn,),
        # enorm, hnorm, input, post-attention and the MTP's own final one
        norm_parameters=5 * hidden_size,
        extra=(("mtp", 2 * hidden_size * hidden_size),),  # eh_proj [D, 2D]
    )
    num_mtp_layers = reader.whole("mtp_num_layers", minimum=0, default=0)
    return decoder_spec(
        reader,
        [layer] * _num_layers(reader),
        expert_keys=KEYS,
        mtp_layers=((num_mtp_layers, mtp),) if num_mtp_layers else (),
    )


def _num_layers(reader: ConfigReader) -> int:
    """Shortcut layers; ``num_hidden_layers`` counts each of the two sub-layers, as exports do."""
    sublayers = None
    if "num_hidden_layers" in reader.values:
        sublayers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    if "num_layers" not in reader.values and sublayers is not None:
        if sublayers % 2:
            raise reader.fail(
                "num_hidden_layers", f"counts sub-layers, so must be even, got {sublayers}"
            )
        return sublayers // 2
    num_layers = reader.whole("num_layers", maximum=MAX_LISTED)
    if sublayers not in (None, num_layers, 2 * num_layers):
        raise reader.fail("num_hidden_layers", f"{sublayers} contradicts num_layers {num_layers}")
    return num_layers


def _indexer(reader: ConfigReader) -> Indexer | None:
    """Lite-Sparse's (``attention_method`` LSA), in every layer's first attention: wq_b, wk,
    weights_proj and an RMS k_norm.
    """
    num_heads = reader.whole("index_n_heads", minimum=0, default=0)
    if not num_heads:
        return None
    if reader.values.get("index_k_norm_type") != "rms":
        norm = told(reader.values.get("index_k_norm_type"))
        raise reader.fail("index_k_norm_type", f'must be "rms" beside index_n_heads, got {norm}')
    head_dim, hidden_size = reader.whole("index_head_dim"), reader.whole("hidden_size")
    query = num_heads * head_dim * reader.whole("q_lora_rank")
    return Indexer(
        num_heads=num_heads,
        head_dim=head_dim,
        matmul_parameters=query + (head_dim + num_heads) * hidden_size,
        other_parameters=head_dim,
        top_k=reader.whole("index_topk") if "index_topk" in reader.values else None,
    )
