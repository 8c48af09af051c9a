"""Designs under every amplification, and whether train-small takes them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ngscale import presets
from ngscale.cli import app
from ngscale.design import Design, decoder_config, design_of, read_design
from ngscale.errors import InputError
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.params import parameter_groups, total_parameters
from ngscale.probe.arms import arm_designs, arms_design, emit_arms, with_tables
from ngscale.spec import Amplification
from ngscale.table_sizes import is_sound
from ngscale.train_small.arms import make_arms
from ngscale.train_small.candidates import read_target, shrink_to
from tests.model.small import DESIGN
from tests.probe.models import save_random, save_tokenizer

FACTORS: dict[Amplification, float | None] = {
    "none": 1.0,
    "scalar": 3.25,
    "sqrt_d": 8.0,
    "layernorm": None,
}
NAMES = ["layernorm", "none", "scalar", "sqrt_d"]
SMOLLM2 = {
    "model_type": "llama",
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
"""HuggingFaceTB/SmolLM2-135M, config.json."""


def invoke(*argv: object) -> Any:
    return CliRunner().invoke(app, [*map(str, argv)])


def test_every_arm_is_the_design_with_another_amplification(tmp_path: Path) -> None:
    emitted = emit_arms(DESIGN, FACTORS, tmp_path, checkpoint=tmp_path)
    assert sorted(emitted.names) == NAMES
    (spec,) = DESIGN.ngrams
    for name in emitted.names:
        (found,) = read_design(tmp_path / name / "config.json").ngrams
        assert found.amplification == name
        assert found.amplification_factor == (3.25 if name == "scalar" else 1.0)
        assert replace(found, amplification="none", amplification_factor=1.0) == spec


def test_lites_arms_can_be_read_with_their_factor(tmp_path: Path) -> None:
    lite = read_design(presets.resolve("longcat-flash-lite"))
    emitted = emit_arms(lite, FACTORS, tmp_path, checkpoint=tmp_path)
    assert emitted.commands[0] == f"ngscale train-small {tmp_path} --proxy 1M"
    spec = read_design(tmp_path / "scalar" / "config.json").ngram
    assert spec is not None
    assert (spec.amplification, spec.amplification_factor) == ("scalar", 3.25)


def test_a_factor_comes_on_top_of_the_designs_own() -> None:
    (spec,) = DESIGN.ngrams
    own = replace(spec, amplification="scalar", amplification_factor=2.0)
    designs, _ = arm_designs(replace(DESIGN, ngrams=(own,)), FACTORS)
    assert designs["scalar"].ngrams[0].amplification_factor == 6.5
    assert designs["none"] == DESIGN


def test_no_scalar_where_it_says_nothing() -> None:
    designs, (clause,) = arm_designs(DESIGN, {**FACTORS, "scalar": 1.0})
    assert sorted(designs) == ["layernorm", "none", "sqrt_d"]
    assert clause.startswith("scalar: s is 1")
    (spec,) = DESIGN.ngrams
    normed = replace(DESIGN, ngrams=(replace(spec, amplification="layernorm"),))
    designs, (clause,) = arm_designs(normed, FACTORS)
    assert "scalar" not in designs
    assert "LayerNorm" in clause


def test_a_dense_decoder_gets_half_of_its_total_in_sound_tables() -> None:
    model = design_of(SMOLLM2).model
    design = with_tables(model)
    spec = design.ngram
    assert spec is not None
    assert (spec.max_order, spec.num_subtables) == (3, 2)
    assert is_sound(spec.table_rows, 49_152, spec.table_orders)
    share = parameter_groups(design)["ngram_tables"] / total_parameters(design)
    assert share == pytest.approx(0.5, abs=0.01)
    assert design_of(decoder_config(design)) == design
    config = decoder_config(design)
    assert (config["moe_intermediate_size"], config["num_experts"]) == (96, 16)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (9, 3)


def test_a_moe_keeps_its_own_keys(tmp_path: Path) -> None:
    directory = save_random("qwen3_moe", tmp_path / "model")
    emit_arms(arms_design(directory), FACTORS, tmp_path / "arms", checkpoint=directory)
    config = json.loads((tmp_path / "arms" / "none" / "config.json").read_text())
    assert config["model_type"] == "qwen3_moe"
    assert config["emb_neighbor_num"] == 3


def test_an_architecture_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(InputError, match=r"mamba.*; write its config\.json .*--arm amplification"):
        arms_design(tmp_path)


@pytest.mark.slow
def test_train_small_takes_what_was_written(tmp_path: Path) -> None:
    directory, arms = tmp_path / "model", tmp_path / "arms"
    decoder = Decoder(DESIGN)
    decoder.initialise(seed=1)
    save_decoder(decoder, DESIGN, directory)
    vocabulary = DESIGN.model.vocab_size
    save_tokenizer(directory, vocab_size=vocabulary)
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(33 + (i * i + 3 * i) % (vocabulary - 3)) for i in range(60_000)))
    probed = ("probe", directory, "--corpus", text, "--tokens", 50, "--no-check")
    result = invoke(*probed, "--emit-arms", arms)
    assert result.exit_code == 0, result.stderr
    (command, direct) = [
        line.split()[1:] for line in result.stderr.splitlines() if line.startswith("  ngscale ")
    ]
    for argv in (command, direct):
        short = (*argv, "--corpus", text, "--tokens", 2048, "--seeds", 1, "--dry-run", "--json")
        result = invoke(*short)
        assert result.exit_code == 0, result.stderr
        found = {row["arm"] for row in json.loads(result.stdout)["arms"]}
        if argv is direct:
            assert {"design", "equivalent-moe", "amplification"} <= found
        else:
            names = {path.parent.name for path in arms.glob("*/config.json")}
            assert {f"{name}/design" for name in names} <= found


@pytest.mark.slow
def test_train_small_shrinks_a_dense_decoder_to_arms_it_can_train(tmp_path: Path) -> None:
    """SmolLM2-135M as a proxy of 1M active parameters, as the printed command asks for."""
    design = with_tables(design_of(SMOLLM2).model)
    emitted = emit_arms(design, FACTORS, tmp_path, checkpoint=tmp_path)
    assert emitted.commands[0].endswith(" --proxy 1M")
    found = read_target(str(tmp_path), shrink_to("cpu", 1_000_000))
    assert [one.name for one in found.candidates] == NAMES
    assert found.tokenizer == "bpe-4096"
    for one in found.candidates:
        (spec,) = one.design.ngrams
        assert spec.amplification == one.name
        assert spec.amplification_factor == (3.25 if one.name == "scalar" else 1.0)
        assert len(make_arms(one.design, candidate=one.name)) == 2


def test_designs_are_checked_before_the_model_is_run(tmp_path: Path) -> None:
    directory = save_random("llama", tmp_path / "model")
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"strange_key": 7}))
    result = invoke("probe", directory, "--emit-arms", tmp_path / "arms")
    assert result.exit_code == 3
    assert "strange_key" in result.stderr
    assert "loading" not in result.stderr


def test_designs_of_layers_have_no_amplification(tmp_path: Path) -> None:
    """Engram reads its rows in layers; amplification is of the input."""
    path = tmp_path / "config.json"
    path.write_text(presets.resolve("deepseek-v4.1-flash").read_text())
    with pytest.raises(InputError, match="input embedding only"):
        arms_design(tmp_path)


def test_the_backbone_of_a_design_without_tables_is_kept() -> None:
    bare = Design(model=DESIGN.model)
    assert with_tables(bare.model).model == DESIGN.model
