"""Checkpoints by their headers: ngscale's own, and LongCat-Flash-Lite's layout in sparse files."""

import json
from pathlib import Path
from typing import Any

import pytest

from ngscale import presets
from ngscale.budget.checkpoint import compare, verdict
from ngscale.design import read_design
from ngscale.params import parameter_groups
from ngscale.safetensors_header import TensorHeader, read_headers
from reports.lite_shapes import write_headers
from tests.safetensors_files import write_tensors


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lite's 137 GB in 40 shards that take no room."""
    directory = tmp_path_factory.mktemp("longcat-flash-lite")
    write_headers(directory)
    (directory / "config.json").write_text(presets.resolve("longcat-flash-lite").read_text())
    return directory


def groups_of(block: dict[str, Any], key: str = "parameters") -> dict[str, int]:
    return {entry["group"]: entry[key] for entry in block["groups"]}


def test_lites_layout_has_the_published_totals(lite: Path) -> None:
    """HASHING 9.1: 11,143 text tensors and 17 of MTP; 9.3: the groups."""
    tensors = read_headers(lite)
    assert len(tensors) == 11_143 + 17
    block = compare(read_design(lite / "config.json"), tensors)
    assert groups_of(block) == {
        "word_embedding": 402_653_184,
        "ngram_tables": 31_406_985_216,
        "ngram_projections": 9_437_184,
        "attention": 915_726_336,
        "dense_ffn": 1_585_446_912,
        "experts": 33_822_867_456,
        "router": 16_515_072,
        "router_bias": 5_376,
        "norms": 175_104,
        "lm_head": 402_653_184,
        "mtp": 108_217_344,
        "copies": 402_653_184,
    }
    assert block["total"] == 68_562_465_024
    assert block["differences"] == []
    assert block["bytes"] == 2 * (68_562_465_024 + 510_870_528) + 2 * (16_515_072 + 5_376)
    assert verdict(block) == (
        "The checkpoint (11,160 tensors in 40 files) holds exactly what its config.json describes."
    )


def test_a_difference_is_named_by_its_group(lite: Path) -> None:
    design = read_design(lite / "config.json")
    tensors = dict(read_headers(lite))
    del tensors["model.layers.3.mlp.experts.7.up_proj.weight"]
    del tensors["lm_head.weight"]
    tensors["model.surprise"] = TensorHeader(
        name="model.surprise", dtype="F32", shape=(5,), file="x", begin=0, end=20
    )
    block = compare(design, tensors)
    assert block["differences"] == [
        {"group": "experts", "difference": -1024 * 3072},
        {"group": "lm_head", "difference": -402_653_184},
        {"group": "unknown", "difference": 5},
    ]
    assert block["unknown_names"] == ["model.surprise"]
    assert "experts -3,145,728, lm_head -402,653,184, unknown +5 parameters" in verdict(block)


def test_what_is_no_parameter_is_told_apart(tmp_path: Path) -> None:
    """Quantised weights bring scales, naive saves a second word embedding."""
    design = read_design(presets.resolve("longcat-flash-lite"))
    path = write_tensors(
        tmp_path / "x.safetensors",
        {
            "model.embed_tokens.weight": ("BF16", [131072, 3072]),
            "model.ngram_embeddings.word_embeddings.weight": ("BF16", [131072, 3072]),
            "model.layers.0.mlps.0.up_proj.weight": ("F8_E4M3", [6144, 3072]),
            "model.layers.0.mlps.0.up_proj.weight_scale_inv": ("F32", [48, 24]),
            "model.layers.0.self_attn.0.rotary_emb.inv_freq": ("F32", [32]),
            "model.layers.0.mlp.experts.down_proj_blocks": ("U8", [4, 8, 3, 16]),  # gpt-oss
            "model.layers.0.mlp.experts.down_proj_scales": ("U8", [4, 8, 3]),
        },
    )
    block = compare(design, read_headers(path))
    found = {group: count for group, count in groups_of(block).items() if count}
    assert found == {
        "word_embedding": 402_653_184,
        "copies": 402_653_184,
        "dense_ffn": 6144 * 3072,
        "experts": 2 * 4 * 8 * 3 * 16,
        "scales": 48 * 24 + 4 * 8 * 3,
        "constants": 32,
    }


def test_our_own_checkpoint_is_what_its_config_describes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra [torch]")
    from ngscale.model.checkpoint import save_decoder
    from ngscale.model.decoder import Decoder
    from tests.model.small import amplified

    design = amplified("layernorm")
    save_decoder(Decoder(design), design, tmp_path)
    block = compare(read_design(tmp_path / "config.json"), read_headers(tmp_path))
    assert block["differences"] == []
    held = groups_of(block)
    assert held.pop("constants") == 2 * 4  # e_score_correction_bias of 4 experts in 2 layers
    assert held == {group: n for group, n in parameter_groups(design).items() if n}
    assert json.dumps(block)
