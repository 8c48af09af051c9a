"""What is common to all architectures: unknown families and keys, experts that vary, sums."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale import presets
from ngscale.architectures import READERS, read_model, with_experts, with_keys
from ngscale.config_reader import ConfigReader
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError, SpecError
from ngscale.params import (
    ACTIVE_CONVENTIONS,
    GROUPS,
    active_parameters,
    moe_of,
    num_moe_layers,
    parameter_equivalent_moe,
    parameter_groups,
    total_parameters,
)
from ngscale.policy import mode_policy
from ngscale.spec import longcat_spec

BACKBONES = [name for name in presets.names() if name not in presets.with_tables()]
MOE = [name for name in presets.names() if name not in ("llama-3.1-8b", "qwen3-8b")]


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(presets.resolve(name).read_text())
    return config


def write(directory: Path, config: dict[str, Any]) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return path


def test_an_unknown_model_type_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_design(write(tmp_path, {"model_type": "llama9"}))
    message = str(caught.value)
    assert 'model_type: "llama9"' in message
    assert all(name in message for name in READERS)


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize("key", ["ffn_bias", "num_experts_of_another_kind"])
def test_a_key_that_is_not_understood_is_named(name: str, key: str, tmp_path: Path) -> None:
    path = write(tmp_path, config_of(name) | {key: 3})
    with pytest.raises(InputError, match=rf"config\.json: {key}: is not known to "):
        read_design(path)
    says_nothing: tuple[Any, ...] = (None, False, [], {})
    for nothing in says_nothing:
        read_design(write(tmp_path, config_of(name) | {key: nothing}))
    with pytest.raises(InputError, match=key):
        read_design(write(tmp_path, config_of(name) | {key: 0}))


def test_a_nested_key_that_is_not_understood_is_named(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": GEMMA | {"extra_layers": 2}}
    with pytest.raises(InputError, match=r"config\.json: text_config\.extra_layers: is not known"):
        read_design(write(tmp_path, config))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_size_of_a_backbone_is_needed(name: str, tmp_path: Path) -> None:
    """None of the keys that tensors follow from is guessed."""
    config = config_of(name)
    needed = ("vocab_size", "hidden_size", "num_attention_heads")
    for key in needed:
        path = write(tmp_path, {other: value for other, value in config.items() if other != key})
        with pytest.raises(InputError, match=f"{key}: is missing"):
            read_design(path)


@pytest.mark.parametrize("name", MOE)
def test_experts_vary_by_the_key_of_the_family(name: str) -> None:
    """One more expert brings its matrices, its row of the router and its biases there."""
    design = read_design(presets.resolve(name))
    experts = moe_of(design.model)
    layers = design.model.moe_layers
    more = replace(design, model=with_experts(design.model, experts.num_experts + 1))
    matrices, hidden_size = experts.expert.parameters, experts.hidden_size
    cost = sum(count * (matrices + hidden_size + moe.router_biases) for count, moe in layers)
    assert total_parameters(more) - total_parameters(design) == cost
    keys = design.model.expert_keys
    assert keys is not None
    assert more.model.config[keys.num_experts] == experts.num_experts + 1
    narrow = with_keys(design.model, {keys.top_k: 1, keys.intermediate_size: 64})
    assert moe_of(narrow).top_k == 1
    assert moe_of(narrow).expert.intermediate_size == 64


def test_experts_of_a_text_model_are_found_in_its_object() -> None:
    text = config_of("qwen3-30b-a3b") | {
        "model_type": "qwen4_exp_text",
        "shared_expert_intermediate_size": 5,
        "hc_count": 2,
        "hc_lowrank": 3,
        "linear_conv_kernel_dim": 3,
        "linear_key_head_dim": 5,
        "linear_value_head_dim": 7,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "indexer_n_heads": 3,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 10,
        "indexer_budget": 8,
        "indexer_compress_ratio": 4,
    }
    model = read_model(
        ConfigReader({"model_type": "qwen4_exp", "text_config": text}, "config.json")
    )
    more = with_experts(model, 200)
    assert moe_of(more).num_experts == 200
    assert model.config["text_config"]["num_experts"] == 128
    assert more.config["text_config"]["num_experts"] == 200


def test_dense_models_have_no_experts_to_vary() -> None:
    dense = read_design(presets.resolve("llama-3.1-8b"))
    with pytest.raises(SpecError, match="llama has no experts"):
        parameter_equivalent_moe(dense)
    with pytest.raises(SpecError, match="llama has no experts"):
        with_experts(dense.model, 4)


@pytest.mark.parametrize("name", MOE)
def test_longcats_tables_fit_on_every_backbone(name: str, tmp_path: Path) -> None:
    """A plan writes its config.json: keys of the model, and of the tables beside them."""
    model = read_design(presets.resolve(name)).model
    spec = longcat_spec(
        vocab_size=model.vocab_size,
        max_order=3,
        num_subtables=2,
        table_rows=tuple(30 * model.vocab_size + 1001 + 2 * i for i in range(4)),
        policy=mode_policy("hf", 2),
    )
    design = Design(model=model, ngrams=(spec,))
    read_back = read_design(write(tmp_path, design_config(design)))
    assert read_back == design
    bare = read_design(write(tmp_path, design_config(Design(model=model))))
    assert bare == Design(model=model)
    equivalent = parameter_equivalent_moe(design)
    off = abs(total_parameters(equivalent) - total_parameters(design))
    experts = moe_of(model)
    assert off <= num_moe_layers(model) * (experts.expert.parameters + experts.hidden_size + 2) / 2
    assert read_design(write(tmp_path, design_config(equivalent))) == equivalent


GEMMA: dict[str, Any] = {
    "model_type": "gemma3_text",
    "vocab_size": 100,
    "hidden_size": 12,
    "intermediate_size": 8,
    "num_hidden_layers": 7,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "sliding_window": 16,
}


def test_gemmas_windows_leave_every_sixth_layer_out() -> None:
    model = read_model(ConfigReader(GEMMA, "config.json"))
    windows = [block.window for count, block in model.attentions for _ in range(count)]
    assert windows == [16, 16, 16, 16, 16, None, 16]
    assert [count for count, _ in model.layers] == [5, 1, 1]


_SIZE = st.integers(1, 64)
_VARIED = {
    "vocab_size": st.integers(2, 200_000),
    "hidden_size": st.integers(1, 64).map(lambda half: 64 * half),
    "intermediate_size": st.integers(1, 4096),
    "ffn_hidden_size": st.integers(1, 4096),
    "moe_intermediate_size": st.integers(1, 4096),
    "expert_ffn_hidden_size": st.integers(1, 4096),
    "num_experts": st.integers(12, 1024),
    "num_local_experts": st.integers(12, 1024),
    "n_routed_experts": st.integers(12, 1024),
    "zero_expert_num": st.integers(0, 32),
    "num_hidden_layers": st.integers(3, 40),
    "num_layers": st.integers(1, 100),
    "head_dim": _SIZE,
    "q_lora_rank": _SIZE,
    "kv_lora_rank": _SIZE,
    "v_head_dim": _SIZE,
    "tie_word_embeddings": st.booleans(),
    "attention_bias": st.booleans(),
}


@given(st.data())
@settings(max_examples=1000)
def test_breakdowns_sum_to_their_totals(data: st.DataObject) -> None:
    """Of every preset, with any sizes: groups to the total, each convention to what it names."""
    name = data.draw(st.sampled_from(presets.names()))
    config = config_of(name)
    for key in config:
        if key in _VARIED:
            config[key] = data.draw(_VARIED[key], label=key)
    design = Design(model=read_model(ConfigReader(config, name)))
    groups = parameter_groups(design)
    assert tuple(groups) == GROUPS
    assert all(type(count) is int and count >= 0 for count in groups.values())
    total = total_parameters(design)
    assert sum(groups.values()) - groups["mtp"] == total
    by_layer = sum(count * layer.group_counts().total() for count, layer in design.model.layers)
    embeddings = (2 - design.model.ties_embeddings) * config["vocab_size"] * config["hidden_size"]
    mixer = dict(design.model.extra).get("residual_mixing", 0)
    assert total == by_layer + embeddings + design.model.final_norm_parameters + mixer
    groups["layer_norms"] = groups["norms"] - design.model.final_norm_parameters
    for convention, active in active_parameters(design).items():
        assert set(active.groups) - {"word_embedding"} <= set(ACTIVE_CONVENTIONS[convention])
        fixed = sum(groups[group] for group in active.groups if group != "experts")
        slots = design.model.moe_layers
        for real, count in active.at.items():
            routed = sum(copies * real * moe.expert.parameters for copies, moe in slots)
            assert count == fixed + routed
        assert active.maximum <= total + groups["mtp"]


@pytest.mark.parametrize("name", MOE)
def test_more_experts_a_token_than_there_are_is_refused(name: str) -> None:
    config = config_of(name)
    keys = read_model(ConfigReader(config, name)).expert_keys
    assert keys is not None
    with pytest.raises(InputError, match=rf"{keys.top_k}:? 999 exceeds (its )?{keys.num_experts}"):
        read_model(ConfigReader(config | {keys.top_k: 999}, name))


@pytest.mark.parametrize("switch", ["add_cross_attention", "is_encoder_decoder"])
def test_only_decoders_are_understood(switch: str) -> None:
    config = config_of("llama-3.1-8b")
    read_model(ConfigReader(config | {switch: False}, "config.json"))
    with pytest.raises(InputError, match=f"{switch}: true is not understood"):
        read_model(ConfigReader(config | {switch: True}, "config.json"))


def test_a_tied_head_is_the_word_embedding() -> None:
    """Once in the total; a convention that counts a head counts it by that name."""
    design = Design(model=read_model(ConfigReader(GEMMA, "config.json")))
    groups, active = parameter_groups(design), active_parameters(design)
    assert groups["lm_head"] == 0
    assert total_parameters(design) == active["with_embedding_and_head"].maximum
    assert active["with_head"] == active["with_embedding_and_head"]
    headless = active["without_embedding_or_head"].maximum
    assert active["with_head"].maximum - headless == groups["word_embedding"] == 100 * 12
    assert "word_embedding" in active["with_head"].groups


def test_a_word_for_another_block_is_refused() -> None:
    config = config_of("llama-3.1-8b") | {"model_type": "starcoder2", "norm_type": "layer_norm"}
    read_model(ConfigReader(config, "config.json"))
    with pytest.raises(InputError, match="norm_type: must be one of layer_norm"):
        read_model(ConfigReader(config | {"norm_type": "rms_norm"}, "config.json"))
