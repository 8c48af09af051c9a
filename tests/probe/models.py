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
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "glm4": (transformers.Glm4Config, transformers.Glm4ForCausalLM),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "granite": (transformers.GraniteConfig, transformers.GraniteForCausalLM),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "olmo2": (transformers.Olmo2Config, transformers.Olmo2ForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
}
_SETTINGS: dict[str, dict[str, object]] = {
    "gemma2": {"rms_norm_eps": 1e-12},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "granite": {"residual_multiplier": 0.5},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}


def save_random(family: str, directory: Path) -> Path:
    """A random decoder of a transformers family, with a tokenizer of one id per character."""
    config_class, model_class = _FAMILIES[family]
    torch.manual_seed(1)
    model = model_class(config_class(**{**_SMALL, **_SETTINGS.get(family, {})}))
    hf_logging: Any = transformers.utils.logging
    hf_logging.disable_progress_bar()
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def save_tokenizer(directory: Path, *, bos: bool = False) -> None:
    """One id per printable character; ``bos`` puts <s> in front as Llama's tokenizer does."""
    words = ["<unk>", "<s>", "</s>", *map(chr, range(33, 33 + VOCAB_SIZE - 3))]
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
