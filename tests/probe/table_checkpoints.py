"""Checkpoints that hold n-gram tables and nothing else, in the layouts of released ones."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.probe.models import VOCAB_SIZE, save_tokenizer

D, WIDTH, NUM_TABLES = 32, 8, 4
ROWS = tuple(2 * VOCAB_SIZE + 2 * i + 1 for i in range(NUM_TABLES))
"""int(2 V + 2 i + 1): ratio 2, N = 3, K = 2."""
LONGCAT = {
    "model_type": "longcat_flash_ngram",
    "architectures": ["LongcatFlashNgramForCausalLM"],
    "vocab_size": VOCAB_SIZE,
    "hidden_size": D,
    "ngram_vocab_size_ratio": 2,
    "emb_neighbor_num": 3,
    "emb_split_num": 2,
    "eos_token_id": 2,
    "initializer_range": 0.02,
}


def random_tables(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, WIDTH)).astype(np.float32) for rows in ROWS]


def random_projections(seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(D, WIDTH)).astype(np.float32) for _ in ROWS]


def random_words(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(VOCAB_SIZE, D)).astype(np.float32)


def save_longcat(
    directory: Path,
    tables: list[np.ndarray],
    *,
    table_name: str = "model.ngram_embeddings.embedders.{}.weight",
    projection_name: str = "model.ngram_embeddings.post_projs.{}.weight",
    transposed: bool = False,
    **config: object,
) -> Path:
    """LongCat-Flash-Lite's names by default."""
    tensors = {"model.embed_tokens.weight": random_words()}
    for i, (table, projection) in enumerate(zip(tables, random_projections(), strict=True)):
        tensors[table_name.format(i)] = table
        tensors[projection_name.format(i)] = np.ascontiguousarray(
            projection.T if transposed else projection
        )
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(LONGCAT | config))
    save_tokenizer(directory)
    return directory
