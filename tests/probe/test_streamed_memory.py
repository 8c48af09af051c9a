"""Peak memory of a streamed pass, measured: the word embedding, touched rows and two layers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.spec import longcat_spec
from tests.designs import policy_of
from tests.probe.models import edit_config, save_random
from tests.probe.peak_memory import TOKENS

MIB = 2**20
SLACK = 16 * MIB
"""Stated: 8 MiB of a tensor on its way, 8 MiB of blocks below what the allocator gives back."""


def growth(small: Path, large: Path, how: str) -> int:
    command = [sys.executable, "-m", "tests.probe.peak_memory", str(small), str(large), how]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


def activations(hidden: int, inner: int, *, parts: int = 0) -> int:
    """Of two windows: stream, embedding and its ``parts`` of each, a score and a dozen rows."""
    rows = 2 * (4 + parts) * hidden + 12 * hidden + 4 * inner
    return 4 * TOKENS * rows


def check(small: Path, large: Path, bound: int) -> None:
    streamed, whole = growth(small, large, "stream"), growth(small, large, "whole")
    assert streamed <= bound < whole


def own(directory: Path, *, hidden: int, layers: int, inner: int, experts: int, rows: int) -> int:
    """Save a decoder of ours with tables; the bound."""
    directory.mkdir()
    vocab_size = 1024
    config = DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=hidden // 4,
        moe_intermediate_size=inner,
        num_experts=experts,
        num_experts_per_tok=2,
    )
    spec = longcat_spec(
        vocab_size=vocab_size,
        max_order=3,
        num_subtables=2,
        table_rows=tuple(rows + 2 * i + 1 for i in range(4)),
        policy=policy_of(0),
    )
    design = Design(model=decoder_model(config), ngrams=(spec,))
    decoder = Decoder(design)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.uniform_(-0.05, 0.05)
    save_decoder(decoder, design, directory)
    layer = sum(p.numel() for p in decoder.layers[0].parameters())
    embedding = vocab_size * hidden + hidden * hidden
    touched = 2 * TOKENS * 4 * (hidden // 4)
    moved = activations(hidden, inner * experts, parts=8)
    return 4 * (embedding + touched + 2 * layer) + moved + SLACK


def test_a_small_decoder_with_tables_stays_in_bounds(tmp_path: Path) -> None:
    """Twelve layers of 5 MiB, tables of 64 MiB."""
    own(tmp_path / "tiny", hidden=32, layers=2, inner=16, experts=2, rows=2000)
    sizes = {"hidden": 256, "layers": 12, "inner": 192, "experts": 8}
    bound = own(tmp_path / "small", **sizes, rows=64 * MIB // 4 // 256)
    check(tmp_path / "tiny", tmp_path / "small", bound)


@pytest.mark.slow
def test_big_tables_are_not_loaded(tmp_path: Path) -> None:
    """Twelve layers of 31 MiB, tables of 512 MiB."""
    own(tmp_path / "tiny", hidden=32, layers=2, inner=16, experts=2, rows=2000)
    sizes = {"hidden": 512, "layers": 12, "inner": 640, "experts": 8}
    bound = own(tmp_path / "large", **sizes, rows=512 * MIB // 4 // 512)
    check(tmp_path / "tiny", tmp_path / "large", bound)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decoder_of_transformers_stays_in_bounds(dtype: torch.dtype, tmp_path: Path) -> None:
    """Sixteen layers of 49 MiB in float32: 816 MiB, half of it on disk as bfloat16."""
    save_random("llama", tmp_path / "tiny")
    large = save_random("llama", tmp_path / "large")
    edit_config(large, vocab_size=4096, hidden_size=1024, intermediate_size=2816, head_dim=128)
    edit_config(large, num_hidden_layers=16, num_attention_heads=8, num_key_value_heads=4)
    config = transformers.AutoConfig.from_pretrained(large)
    auto_class: Any = transformers.AutoModelForCausalLM
    model = auto_class.from_config(config, dtype=dtype)
    model.save_pretrained(large)
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    bound = 4 * (4096 * 1024 + 2 * layer) + activations(1024, 2816) + SLACK
    check(tmp_path / "tiny", large, bound)


@pytest.mark.slow
def test_experts_that_are_fused_on_loading_stay_in_bounds(tmp_path: Path) -> None:
    """Ten layers of 51 MiB, stored expert by expert."""
    save_random("mixtral", tmp_path / "tiny")
    large = save_random("mixtral", tmp_path / "large")
    edit_config(large, vocab_size=4096, hidden_size=512, intermediate_size=1024, head_dim=64)
    edit_config(large, num_hidden_layers=10, num_attention_heads=8, num_key_value_heads=4)
    edit_config(large, num_local_experts=8)
    config = transformers.AutoConfig.from_pretrained(large)
    auto_class: Any = transformers.AutoModelForCausalLM
    model = auto_class.from_config(config)
    model.save_pretrained(large)
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    bound = 4 * (4096 * 512 + 2 * layer) + activations(512, 8 * 1024) + SLACK
    check(tmp_path / "tiny", large, bound)
