"""The group of ``params.GROUPS`` that a tensor of a checkpoint counts in, by its name.

Names are those of transformers' modules and of released safetensors (LongCat, DeepSeek, gpt-oss,
Qwen); the first pattern that fits decides. Standard library only.
"""

import re

from ngscale.errors import InputError

_PATTERNS = (
    (r"(^|\.)mtp\.", "mtp"),
    (r"\.(eh_proj|enorm|hnorm|shared_head)\.", "mtp"),
    # n-gram tables and what reads them
    (r"ngram_embeddings\.(word_embeddings\.|embed_tokens\.)", "word_embedding"),
    (r"ngram_embeddings\.embedders\.\d+\.|oe_embed_tokens\d+\.", "ngram_tables"),
    (r"ngram_embeddings\.post_projs\.\d+\.|oe_embed_proj\d+\.", "ngram_projections"),
    (r"\.ngram_embedding\.(shard_\d+\.)?weight", "ngram_tables"),
    (r"(embed_tokens|\.ngram|\.mlps\.0\.embedding)\.tables\.", "ngram_tables"),
    (r"\.mlps\.0\.embedding\.(word_embeddings\.)?weight", "per_layer_embedding"),
    (r"\.ple\.|(embed_tokens|\.mlps\.0\.embedding)\.projection\.|\.ngram\.", "ngram_projections"),
    (r"embed_tokens\.amplifier\.", "norms"),
    # embeddings and head
    (r"embed_tokens_per_layer\.", "per_layer_embedding"),
    (r"(^|\.)(embed_tokens|wte)(\.word_embeddings)?\.weight", "word_embedding"),
    (r"(^|\.)wpe\.weight", "position_embedding"),
    (r"(^|\.)lm_head\.", "lm_head"),
    # between the blocks
    (
        r"\.(altup|laurel|attn_hc|ffn_hc|hc_head)\.|altup_(unembed_)?projections\.",
        "residual_mixing",
    ),
    (r"hyper_connection(_mixer)?\.|per_layer_(input_gate|projection)\.", "residual_mixing"),
    (r"per_layer_(model_projection|projection_norm)\.", "residual_mixing"),
    (r"post_per_layer_input_norm\.", "residual_mixing"),
    # attention, its inner norms and its indexer
    (r"\.(self_attn|linear_attn|attn)\.", "attention"),
    # experts
    (r"e_score_correction_bias$|(router(\.classifier)?|\.gate)\.bias$", "router_bias"),
    (r"\.shared_experts?(_gate)?\.", "shared_experts"),
    (r"\.experts\.", "experts"),
    (r"(\.router(\.classifier)?|\.(mlp|block_sparse_moe|feed_forward)\.gate)\.weight$", "router"),
    # dense feed-forward blocks and norms
    (r"\.(mlp|mlps\.\d+|feed_forward)\.", "dense_ffn"),
    (r"norm\d*(\.\d+)?\.(weight|bias)$|\.ln_(1|2|f)\.(weight|bias)$", "norms"),
)
_TABLE = tuple((re.compile(pattern), group) for pattern, group in _PATTERNS)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_INDICES = re.compile(
    r"rotary_emb\.|inv_freq$|\.tid2eid$|\.layer_multipliers$|ngram_heads_(vocab_sizes|offsets)$"
    r"|embed_scale$|router_input_scale$|per_layer_(projection|input)_scale$"
)
"""Buffers that are no parameters: indices, frequencies and constants."""


def is_constant(name: str) -> bool:
    """Whether a tensor of this name is an index, a frequency or a constant, not a parameter."""
    return _INDICES.search(name) is not None


def group_of(name: str, *, num_layers: int | None = None) -> str:
    """The group of the tensor ``name``.

    DeepSeek's and GLM's checkpoints store MTP layers behind the last of ``num_layers`` layers.

    Raises:
        InputError: no pattern fits.
    """
    layer = _LAYER.search(name)
    if num_layers is not None and layer is not None and int(layer[1]) >= num_layers:
        return "mtp"
    for pattern, group in _TABLE:
        if pattern.search(name):
            return group
    raise InputError(f"{name}: no parameter group is known for a tensor of this name")
