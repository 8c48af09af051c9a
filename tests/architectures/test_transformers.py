"""Every architecture against transformers' own modules, on the meta device, group by group."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ngscale.architectures import READERS
from ngscale.design import read_design
from ngscale.params import GROUPS, parameter_groups
from ngscale.presets import resolve
from ngscale.tensor_groups import group_of, is_constant

torch = pytest.importorskip("torch", reason="needs the extra [torch]")
transformers = pytest.importorskip("transformers", reason="needs the extra [hf]")

_GQA = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 37,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
_BIASES = {"attention_bias": True}
_ALL_BIASES = {"attention_bias": True, "mlp_bias": True}
_MOE = {"moe_intermediate_size": 11, "num_experts": 7, "num_experts_per_tok": 3}
_LINEAR = {
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 5,
    "linear_value_head_dim": 7,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
_MLA = {
    "q_lora_rank": 19,
    "kv_lora_rank": 13,
    "qk_nope_head_dim": 9,
    "qk_rope_head_dim": 4,
    "v_head_dim": 11,
}
_DEEPSEEK = {
    "moe_intermediate_size": 11,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "first_k_dense_replace": 2,
    "n_group": 2,
    "topk_group": 1,
}
_LONGCAT = _MLA | {
    "vocab_size": 101,
    "hidden_size": 48,
    "num_layers": 3,
    "ffn_hidden_size": 37,
    "expert_ffn_hidden_size": 11,
    "num_attention_heads": 6,
    "n_routed_experts": 7,
    "zero_expert_num": 0,
    "moe_topk": 3,
}
_V4 = {
    "vocab_size": 101,
    "hidden_size": 48,
    "moe_intermediate_size": 11,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "head_dim": 32,
    "q_lora_rank": 19,
    "o_groups": 2,
    "o_lora_rank": 9,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 3,
    "hc_mult": 3,
    "index_n_heads": 3,
    "index_head_dim": 32,
    "index_topk": 4,
    "sliding_window": 8,
}
_QWEN4 = (
    {key: value for key, value in _GQA.items() if key != "intermediate_size"}
    | _MOE
    | _LINEAR
    | {
        "head_dim": 10,
        "shared_expert_intermediate_size": 13,
        "hc_count": 3,
        "hc_lowrank": 9,
        "indexer_n_heads": 3,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 10,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
        "layer_types": ["linear_attention", "linear_attention", "indexed_attention"]
        + 2 * ["linear_attention"],
    }
)
_PLE = {
    "ple_layer_ids": [2, 4],
    "ple_embed_dim": 24,
    "ngram_size": 3,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 1000,
    "eos_token_id": 5,
}
_GEMMA3N = _GQA | {
    "head_dim": 10,
    "num_kv_shared_layers": 2,
    "vocab_size_per_layer_input": 91,
    "hidden_size_per_layer_input": 7,
    "altup_num_inputs": 3,
    "laurel_rank": 5,
    "layer_types": [
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ],
}
_GPT2 = {"vocab_size": 101, "n_positions": 33, "n_embd": 48, "n_layer": 3, "n_head": 6}

CASES: dict[str, list[dict[str, Any]]] = {
    "llama": [_GQA, _GQA | _ALL_BIASES | {"head_dim": 10}, _GQA | {"tie_word_embeddings": True}],
    "mistral": [_GQA, _GQA | {"head_dim": 10, "sliding_window": None}],
    "qwen2": [_GQA, _GQA | {"tie_word_embeddings": True, "use_sliding_window": True}],
    "qwen3": [_GQA, _GQA | _BIASES | {"head_dim": 10}],
    "gemma": [_GQA, _GQA | {"head_dim": 10, "tie_word_embeddings": False}],
    "gemma2": [_GQA, _GQA | _BIASES | {"head_dim": 10}],
    "gemma3_text": [_GQA, _GQA | _BIASES | {"head_dim": 10}],
    "gemma3n_text": [
        _GEMMA3N,
        _GEMMA3N | _BIASES | {"intermediate_size": [31, 32, 33, 34, 35], "num_kv_shared_layers": 1},
    ],
    "granite": [_GQA, _GQA | _ALL_BIASES],
    "smollm3": [_GQA, _GQA | _ALL_BIASES],
    "arcee": [_GQA, _GQA | _ALL_BIASES],
    "seed_oss": [_GQA, _GQA | _ALL_BIASES | {"attention_out_bias": True, "head_dim": 10}],
    "olmo2": [_GQA, _GQA | _BIASES],
    "olmo3": [_GQA, _GQA | _BIASES],
    "phi3": [_GQA],
    "glm4": [_GQA, _GQA | {"attention_bias": False, "head_dim": 10}],
    "starcoder2": [_GQA, _GQA | {"use_bias": False}],
    "gpt2": [_GPT2, _GPT2 | {"n_inner": 29}],
    "mixtral": [_GQA | {"num_local_experts": 7, "num_experts_per_tok": 3}],
    "minimax_m2": [_GQA | {"num_local_experts": 7, "num_experts_per_tok": 3, "head_dim": 10}],
    "olmoe": [
        _GQA | {"num_experts": 7, "num_experts_per_tok": 3},
        _GQA | _BIASES | {"num_experts": 7, "num_experts_per_tok": 3},
    ],
    "gpt_oss": [
        _GQA | {"num_local_experts": 7, "num_experts_per_tok": 3, "head_dim": 10},
        _GQA | {"num_local_experts": 7, "num_experts_per_tok": 3, "attention_bias": False},
    ],
    "qwen2_moe": [
        _GQA | _MOE | {"shared_expert_intermediate_size": 13},
        _GQA
        | _MOE
        | {"shared_expert_intermediate_size": 13, "qkv_bias": False, "mlp_only_layers": [0, 3]},
    ],
    "qwen3_moe": [
        _GQA | _MOE,
        _GQA | _MOE | _BIASES | {"head_dim": 10, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    ],
    "qwen3_next": [
        _GQA | _MOE | _LINEAR | {"shared_expert_intermediate_size": 13},
        _GQA
        | _MOE
        | _LINEAR
        | _BIASES
        | {"shared_expert_intermediate_size": 13, "head_dim": 10, "mlp_only_layers": [1]},
    ],
    "qwen4_exp_text": [_QWEN4, _QWEN4 | _BIASES, _QWEN4 | _PLE],
    "glm4_moe": [
        _GQA | _DEEPSEEK | {"num_mtp_layers": 0},
        _GQA
        | _DEEPSEEK
        | _BIASES
        | {"use_qk_norm": True, "head_dim": 10, "n_shared_experts": 1, "num_mtp_layers": 0},
    ],
    "deepseek_v2": [
        _GQA | _MLA | _DEEPSEEK | {"num_key_value_heads": 6},
        _GQA | _MLA | _DEEPSEEK | _ALL_BIASES | {"num_key_value_heads": 6, "q_lora_rank": None},
    ],
    "deepseek_v3": [
        _GQA | _MLA | _DEEPSEEK | {"num_key_value_heads": 6, "num_mtp_layers": 0},
        _GQA
        | _MLA
        | _DEEPSEEK
        | _BIASES
        | {"num_key_value_heads": 6, "q_lora_rank": None, "num_mtp_layers": 0},
    ],
    "deepseek_v4": [
        _V4,
        _V4
        | {
            "layer_types": [
                "sliding_attention",
                "compressed_sparse_attention",
                "sliding_attention",
                "heavily_compressed_attention",
                "compressed_sparse_attention",
                "heavily_compressed_attention",
            ],
            "mlp_layer_types": ["hash_moe", *["moe"] * 5],
            "hc_mult": 4,
        },
    ],
    "longcat_flash": [_LONGCAT, _LONGCAT | _BIASES | {"router_bias": True}],
}
"""Sizes that no two groups share a factor by chance; every switch that changes tensors."""
OWN_OR_REMOTE = {
    "ngscale_moe": "ngscale's own; held to its torch module in tests/model",
    "longcat_flash_ngram": "remote code; transformers has no n-gram tables",
    "longcat_next": "remote code",
    "deepseek_v41": "transformers has none; its published totals are in test_published.py",
    "kimi_k2": "remote code; deepseek_v3 by another name",
}


def config_of(model_type: str, changes: dict[str, Any]) -> Any:
    return transformers.AutoConfig.for_model(model_type, **changes)


def counts_of(config: Any) -> dict[str, int]:
    """Parameters of the module, and the buffers that are trained or stored beside them."""
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    counts = dict.fromkeys(GROUPS, 0)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not is_constant(name):
            counts[group_of(name)] += tensor.numel()
    return counts


def written(config: Any, directory: Path) -> Path:
    """What ``save_pretrained`` writes, rope's settings and all."""
    config.save_pretrained(directory)
    return directory / "config.json"


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        pytest.param(model_type, changes, id=f"{model_type}-{index}")
        for model_type, cases in CASES.items()
        for index, changes in enumerate(cases)
    ],
)
def test_groups_are_those_of_the_modules(
    model_type: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    config = config_of(model_type, changes)
    design = read_design(written(config, tmp_path))
    assert design.model.model_type == model_type
    assert parameter_groups(design) == counts_of(config)


def resized(changes: dict[str, Any], seed: str) -> dict[str, Any]:
    """The same switches with other sizes, all legal: heads divide what they must."""
    rng = random.Random(seed)
    sizes: dict[str, int] = {
        "vocab_size": rng.randrange(20, 300),
        "hidden_size": 24 * rng.randrange(1, 6),
        "n_embd": 24 * rng.randrange(1, 6),
        "num_key_value_heads": rng.choice((1, 2, 3)),
    }
    for key in ("intermediate_size", "moe_intermediate_size", "ffn_hidden_size"):
        sizes[key] = rng.randrange(1, 90)
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        sizes[key] = 2 * rng.randrange(3, 20)
    for key in ("q_lora_rank", "kv_lora_rank", "v_head_dim", "shared_expert_intermediate_size"):
        sizes[key] = rng.randrange(3, 40)
    taken = {key for key, value in changes.items() if type(value) is int}
    if changes.get("num_key_value_heads") == changes.get("num_attention_heads"):
        taken.discard("num_key_value_heads")  # MLA
    return changes | {key: size for key, size in sizes.items() if key in taken}


@pytest.mark.parametrize("model_type", CASES)
def test_groups_hold_at_other_sizes(model_type: str, tmp_path: Path) -> None:
    for index, changes in enumerate(CASES[model_type]):
        config = config_of(model_type, resized(changes, f"{model_type}-{index}"))
        design = read_design(written(config, tmp_path))
        assert parameter_groups(design) == counts_of(config)


def test_every_model_type_is_held_to_a_module_or_says_why_not() -> None:
    assert set(CASES) | set(OWN_OR_REMOTE) == set(READERS)
    assert not set(CASES) & set(OWN_OR_REMOTE)


def test_transformers_gives_longcats_zero_experts_weights(tmp_path: Path) -> None:
    """Known wrong: transformers 5 sizes ``experts.gate_up_proj`` for routed and zero experts, and
    checkpoints hold those of routed ones alone (LongCat-Flash-Lite's safetensors: 256 of 384), so
    its module counts 2 * 11 * 48 too many for every zero expert of every layer, and nothing else.
    """
    config = config_of("longcat_flash", _LONGCAT | {"zero_expert_num": 5})
    ours = parameter_groups(read_design(written(config, tmp_path)))
    overcount = 3 * 5 * 2 * 11 * 48
    assert counts_of(config) == ours | {"experts": ours["experts"] + overcount}


@pytest.mark.parametrize(
    ("model_type", "preset"),
    [
        ("mixtral", "mixtral-8x7b"),
        ("deepseek_v3", "deepseek-v3"),
        ("deepseek_v4", "deepseek-v4-flash"),
        ("longcat_flash", "longcat-flash-chat"),
    ],
)
def test_presets_are_the_defaults_of_their_classes(
    model_type: str, preset: str, tmp_path: Path
) -> None:
    """transformers' defaults are the sizes of these released models."""
    default = read_design(written(config_of(model_type, {}), tmp_path))
    assert parameter_groups(default) == parameter_groups(read_design(resolve(preset)))


def test_text_models_are_found_in_multimodal_configs(tmp_path: Path) -> None:
    text = config_of("gemma3n_text", _GEMMA3N)
    alone = parameter_groups(read_design(written(text, tmp_path)))
    config = {"model_type": "gemma3n", "text_config": json.loads(text.to_json_string())}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert parameter_groups(read_design(path)) == alone
