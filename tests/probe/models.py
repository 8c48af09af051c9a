"""Checkpoints and models for the tests of probe, each made in a moment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn

VOCAB_SIZE = 97
TEXT = "".join(chr(33 + (i * i + 3 * i) % 90) for i in range(900))

_SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_FAMILIES = {
    "cohere": "Cohere",
    "deepseek_v3": "DeepseekV3",
    "gemma2": "Gemma2",
    "gemma3": ("Gemma3Text", "Gemma3"),
    "glm4": "Glm4",
    "gpt2": ("GPT2", "GPT2LMHead"),
    "gpt_neox": "GPTNeoX",
    "gpt_neox_sequential": "GPTNeoX",
    "gpt_oss": "GptOss",
    "granite": "Granite",
    "llama": "Llama",
    "longcat_flash": "LongcatFlash",
    "mamba": "Mamba",
    "mistral": "Mistral",
    "mixtral": "Mixtral",
    "olmo": "Olmo",
    "olmo2": "Olmo2",
    "olmoe": "Olmoe",
    "phi3": "Phi3",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_moe": "Qwen3Moe",
    "qwen4_exp": ("Qwen4ExpText", "Qwen4Exp"),
}
"""Family -> the stem of its classes; of config and model, where those differ."""
_MLA: dict[str, object] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
_EXPERTS: dict[str, object] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
}
_SETTINGS: dict[str, dict[str, object]] = {
    "deepseek_v3": {
        **_MLA,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "gemma2": {"rms_norm_eps": 1e-12},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt_neox_sequential": {"use_parallel_residual": False},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {"residual_multiplier": 0.5},
    "longcat_flash": {
        **_MLA,
        "num_layers": 2,
        "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 16,
        "n_routed_experts": 4,
        "zero_expert_num": 2,
        "moe_topk": 2,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": _EXPERTS,
    "qwen4_exp": {
        **_EXPERTS,
        "shared_expert_intermediate_size": 16,
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "indexed_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
        "hc_lowrank": 8,
        "ple_layer_ids": [1],
        "ple_embed_dim": 32,
        "heads_per_ngram": 2,
        "ngram_vocab_size_base": 50,
        "split_ngram_parts": 2,
        "make_ngram_vocab_size_divisible_by": 4,
    },
}


def random_model(family: str) -> Any:
    """A random decoder of a transformers family, small."""
    stems = _FAMILIES[family]
    config_stem, model_stem = (stems, stems) if isinstance(stems, str) else stems
    config_class = getattr(transformers, f"{config_stem}Config")
    small = dict(_SMALL)
    if family == "longcat_flash":
        del small["num_hidden_layers"]  # derived: two per shortcut block
    config = config_class(**{**small, **_SETTINGS.get(family, {})})
    torch.manual_seed(1)
    suffix = "Model" if model_stem == "GPT2LMHead" else "ForCausalLM"
    return getattr(transformers, f"{model_stem}{suffix}")(config).eval()


def save_random(family: str, directory: Path) -> Path:
    """A random decoder of a transformers family, with a tokenizer of one id per character."""
    model = random_model(family)
    hf_logging: Any = transformers.utils.logging
    hf_logging.disable_progress_bar()
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def save_tokenizer(directory: Path, *, bos: bool = False, vocab_size: int = VOCAB_SIZE) -> None:
    """One id per printable character; ``bos`` puts <s> in front as Llama's tokenizer does."""
    words = ["<unk>", "<s>", "</s>", *map(chr, range(33, 33 + vocab_size - 3))]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    tokenizer.save(str(directory / "tokenizer.json"))


def save_text(directory: Path) -> Path:
    path = directory / "text.txt"
    path.write_text(TEXT)
    return path


def edit_config(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


class Constant(nn.Module):
    """Puts out the same row for every token, whatever it reads."""

    def __init__(self, row: Sequence[float]) -> None:
        super().__init__()
        self.row = torch.tensor(row)

    def forward(self, x: Tensor) -> Tensor:
        return self.row.expand_as(x)


class HandLayer(nn.Module):
    """``extra`` is added to the stream by no module, so that no hook sees it."""

    def __init__(self, attn: Sequence[float], mlp: Sequence[float], extra: float = 0.0) -> None:
        super().__init__()
        self.self_attn = Constant(attn)
        self.mlp = Constant(mlp)
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x)
        x = x + self.mlp(x)
        return x + self.extra if self.extra else x


class HandModel(nn.Module):
    """A decoder whose every norm is known: constant writes on a table of embeddings."""

    def __init__(self, embedding: Sequence[Sequence[float]], layers: Sequence[HandLayer]) -> None:
        super().__init__()
        rows = torch.tensor(embedding)
        self.embed_tokens = nn.Embedding(len(rows), len(rows[0]), _weight=rows)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x)
        return out
