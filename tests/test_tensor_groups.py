"""Names of tensors in released checkpoints, and the groups they count in."""

import pytest

from ngscale.errors import InputError
from ngscale.tensor_groups import group_of, is_constant


@pytest.mark.parametrize(
    ("name", "group"),
    [
        # LongCat-Flash-Lite and Lite-Sparse (HASHING 9.1)
        ("model.embed_tokens.weight", "word_embedding"),
        ("model.ngram_embeddings.word_embeddings.weight", "word_embedding"),
        ("model.ngram_embeddings.embedders.11.weight", "ngram_tables"),
        ("model.ngram_embeddings.post_projs.0.weight", "ngram_projections"),
        ("model.oe_embed_tokens3.weight", "ngram_tables"),
        ("model.oe_embed_proj3.weight", "ngram_projections"),
        ("model.layers.0.self_attn.0.q_a_layernorm.weight", "attention"),
        ("model.layers.0.self_attn.0.indexer.k_norm.weight", "attention"),
        ("model.layers.0.input_layernorm.1.weight", "norms"),
        ("model.layers.0.mlps.1.gate_proj.weight", "dense_ffn"),
        ("model.layers.0.mlp.router.classifier.weight", "router"),
        ("model.layers.0.mlp.router.classifier.bias", "router_bias"),
        ("model.layers.0.mlp.router.e_score_correction_bias", "router_bias"),
        ("model.layers.0.mlp.experts.255.down_proj.weight", "experts"),
        ("model.mtp.embed_tokens.weight", "mtp"),
        ("model.mtp.layers.0.transformer_layer.mlp.gate_proj.weight", "mtp"),
        ("model.norm.weight", "norms"),
        ("lm_head.weight", "lm_head"),
        # Qwen3.8 (HASHING 9.1)
        ("model.layers.1.ple.ple_embedding.ngram_embedding.shard_511.weight", "ngram_tables"),
        ("model.layers.1.ple.key_proj.weight", "ngram_projections"),
        ("model.layers.1.ple.norm_conv.weight", "ngram_projections"),
        ("model.layers.1.ple.conv1d.weight", "ngram_projections"),
        # others, as released
        ("model.layers.3.block_sparse_moe.gate.weight", "router"),
        ("model.layers.3.block_sparse_moe.experts.7.w1.weight", "experts"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "shared_experts"),
        ("model.layers.3.mlp.shared_expert_gate.weight", "shared_experts"),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router_bias"),
        ("model.layers.3.mlp.gate_proj.weight", "dense_ffn"),
        ("model.layers.3.mlp.router.bias", "router_bias"),
        ("model.layers.3.mlp.experts.gate_up_proj_bias", "experts"),
        ("model.layers.3.mlp.experts.gate_up_proj_blocks", "experts"),
        ("model.layers.3.self_attn.sinks", "attention"),
        ("model.layers.61.eh_proj.weight", "mtp"),
        ("model.language_model.layers.2.altup.router_norm.weight", "residual_mixing"),
        ("model.language_model.embed_tokens_per_layer.weight", "per_layer_embedding"),
        ("transformer.wpe.weight", "position_embedding"),
        ("transformer.h.0.attn.c_attn.weight", "attention"),
        ("transformer.ln_f.bias", "norms"),
    ],
)
def test_a_tensor_counts_in_one_group(name: str, group: str) -> None:
    assert group_of(name) == group


def test_layers_behind_the_last_are_multi_token_prediction() -> None:
    """README_WEIGHTS.md of DeepSeek-V3: the MTP module is layer 61 of 0..60."""
    name = "model.layers.61.mlp.experts.0.up_proj.weight"
    assert group_of(name, num_layers=61) == "mtp"
    assert group_of(name, num_layers=62) == group_of(name) == "experts"


def test_indices_and_frequencies_are_no_parameters() -> None:
    assert is_constant("model.layers.1.ple.ple_embedding.layer_multipliers")
    assert is_constant("model.layers.0.mlp.gate.tid2eid")
    assert is_constant("model.rotary_emb.inv_freq")
    assert not is_constant("model.layers.0.self_attn.q_proj.weight")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"vision_tower\.patch\.weight: no parameter group"):
        group_of("vision_tower.patch.weight")
