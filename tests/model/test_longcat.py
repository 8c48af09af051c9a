"""LongCat-Flash checkpoints: names, shapes, transformers' own forward, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ngscale.config_reader import ConfigReader
from ngscale.design import Design, read_design
from ngscale.errors import InputError
from ngscale.model import NgramEmbedding
from ngscale.model.checkpoint import load_decoder, save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.longcat import Family, embedding_tensors, load_embedding, longcat_tensors
from ngscale.ngram_config import specs_of
from ngscale.params import parameter_groups
from ngscale.presets import resolve
from ngscale.spec import NgramSpec
from ngscale.tensor_groups import group_of

TINY: dict[str, Any] = {
    "architectures": ["LongcatFlashNgramForCausalLM"],
    "model_type": "longcat_flash_ngram",
    "vocab_size": 40,
    "hidden_size": 24,
    "ffn_hidden_size": 20,
    "expert_ffn_hidden_size": 12,
    "num_layers": 2,
    "num_attention_heads": 2,
    "q_lora_rank": 10,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "n_routed_experts": 5,
    "zero_expert_num": 3,
    "moe_topk": 3,
    "routed_scaling_factor": 6.0,
    "ngram_vocab_size_ratio": 3,
    "emb_neighbor_num": 4,
    "emb_split_num": 4,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
"""LongCat-Flash-Lite's config with small numbers."""


def tiny(directory: Path, **changes: object) -> Design:
    path = directory / "tiny.json"
    path.write_text(json.dumps(TINY | changes))
    return read_design(path)


def random_decoder(design: Design) -> Decoder:
    decoder = Decoder(design)
    decoder.initialise(0)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in decoder.state_dict().items():
        if "tables" in name or "bias" in name:
            tensor.normal_(generator=generator).mul_(0.1)
    return decoder.eval()


def some_tokens() -> Tensor:
    return torch.randint(0, 40, (2, 17), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", ["ngram_embeddings", "oe_embed"])
def test_a_tiny_longcat_round_trips(tmp_path: Path, family: Family) -> None:
    design = tiny(tmp_path)
    decoder = random_decoder(design)
    save_decoder(decoder, design, tmp_path, family=family)
    loaded, same = load_decoder(tmp_path)
    assert same == design
    assert torch.equal(loaded(some_tokens()), decoder(some_tokens()))


def test_the_names_and_shapes_are_those_of_the_released_index(tmp_path: Path) -> None:
    """HASHING 9.1, LongCat-Flash-Lite's safetensors, at other sizes."""
    shapes = {
        name: list(tensor.shape)
        for name, tensor in longcat_tensors(random_decoder(tiny(tmp_path))).items()
    }
    D, V = 24, 40
    expected: dict[str, list[int]] = {
        "model.embed_tokens.weight": [V, D],
        "lm_head.weight": [V, D],
        "model.norm.weight": [D],
    }
    for i in range(12):
        expected[f"model.ngram_embeddings.embedders.{i}.weight"] = [3 * V + 2 * i + 1, 2]
        expected[f"model.ngram_embeddings.post_projs.{i}.weight"] = [D, 2]
    for layer in (f"model.layers.{i}." for i in range(2)):
        for half in range(2):
            attention = f"{layer}self_attn.{half}."
            expected |= {
                f"{attention}q_a_proj.weight": [10, D],
                f"{attention}q_a_layernorm.weight": [10],
                f"{attention}q_b_proj.weight": [2 * 10, 10],
                f"{attention}kv_a_proj_with_mqa.weight": [8 + 4, D],
                f"{attention}kv_a_layernorm.weight": [8],
                f"{attention}kv_b_proj.weight": [2 * 11, 8],
                f"{attention}o_proj.weight": [D, 2 * 5],
                f"{layer}input_layernorm.{half}.weight": [D],
                f"{layer}post_attention_layernorm.{half}.weight": [D],
                f"{layer}mlps.{half}.gate_proj.weight": [20, D],
                f"{layer}mlps.{half}.up_proj.weight": [20, D],
                f"{layer}mlps.{half}.down_proj.weight": [D, 20],
            }
        expected[f"{layer}mlp.router.classifier.weight"] = [8, D]
        expected[f"{layer}mlp.router.e_score_correction_bias"] = [8]
        for expert in range(5):
            stem = f"{layer}mlp.experts.{expert}."
            expected[f"{stem}gate_proj.weight"] = [12, D]
            expected[f"{stem}up_proj.weight"] = [12, D]
            expected[f"{stem}down_proj.weight"] = [D, 12]
    assert shapes == expected


def test_lite_itself_has_the_tensors_and_the_groups_of_its_index() -> None:
    """On the meta device: 11,143 text tensors (HASHING 9.1) and every group of ``budget``."""
    design = read_design(resolve("longcat-flash-lite"))
    with torch.device("meta"):
        tensors = longcat_tensors(Decoder(design))
    assert len(tensors) == 11_143
    counts: dict[str, int] = {}
    for name, tensor in tensors.items():
        counts[group_of(name)] = counts.get(group_of(name), 0) + tensor.numel()
    groups = parameter_groups(design)
    assert counts == {name: n for name, n in groups.items() if n and name != "mtp"}


YARN = {
    "rope_type": "yarn",
    "factor": 10.0,
    "original_max_position_embeddings": 8,
    "beta_fast": 4,
    "beta_slow": 1,
    "mscale": 1,
    "mscale_all_dim": 0.7,
}
"""Of LongCat-Flash-Lite's kind, so short that some pairs are stretched and some are not."""


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 1e7},
        {"rope_theta": 100.0, "rope_scaling": YARN},
        {"rope_parameters": {"rope_theta": 100.0, **YARN, "mscale_all_dim": None}},
    ],
)
def test_the_forward_is_that_of_transformers(tmp_path: Path, rope: dict[str, Any]) -> None:
    """``longcat_flash`` of transformers, zero experts and correction bias included. It has no
    n-gram embedding, and stores gate and up of zero experts that it never reads.
    """
    transformers = pytest.importorskip("transformers")
    without = {key: v for key, v in TINY.items() if not key.startswith(("ngram_", "emb_"))}
    without |= {"architectures": ["LongcatFlashForCausalLM"], "model_type": "longcat_flash", **rope}
    (tmp_path / "config.json").write_text(json.dumps(without))
    config = transformers.LongcatFlashConfig(
        **json.loads(json.dumps(without)), head_dim=4, attn_implementation="eager"
    )
    torch.manual_seed(0)
    theirs = transformers.LongcatFlashForCausalLM(config).eval()
    state = {}
    for name, tensor in theirs.state_dict().items():
        scaled = tensor + 0.3 * torch.randn(tensor.shape)
        tensor.copy_(scaled)
        if name.endswith("experts.gate_up_proj"):
            stem = name.removesuffix("gate_up_proj")
            for expert in range(5):
                gate, up = tensor[expert].chunk(2)
                state[f"{stem}{expert}.gate_proj.weight"] = gate.contiguous()
                state[f"{stem}{expert}.up_proj.weight"] = up.contiguous()
        elif name.endswith("experts.down_proj"):
            stem = name.removesuffix("down_proj")
            for expert in range(5):
                state[f"{stem}{expert}.down_proj.weight"] = tensor[expert].contiguous()
        else:
            state[name] = tensor.clone()
    save_file(state, tmp_path / "model.safetensors")
    mine, _ = load_decoder(tmp_path)
    tokens = some_tokens()
    with torch.no_grad():
        expected = theirs(tokens).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(mine(tokens), expected, rtol=1e-4, atol=1e-4)
    chosen = torch.cat([router(torch.randn(1, 50, 24)).chosen for router in mine.routers()])
    assert (chosen >= 5).any()
    assert (chosen < 5).any()


def longcat_embedding() -> NgramEmbedding:
    embedding = NgramEmbedding(40, 24, read_spec(TINY))
    embedding.initialise(0)
    torch.nn.init.normal_(embedding.tables.weight, generator=torch.Generator().manual_seed(1))
    return embedding


def read_spec(config: dict[str, Any]) -> NgramSpec:
    (spec,) = specs_of(ConfigReader(config, "config.json"))
    return spec


@pytest.mark.parametrize("family", ["ngram_embeddings", "oe_embed"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("padding", [0, 7])
def test_padded_tables_and_turned_projections_load(
    family: Family, turned: bool, padding: int
) -> None:
    embedding = longcat_embedding()
    tensors = embedding_tensors(embedding, family=family)
    for name, tensor in tensors.items():
        if "proj" in name and turned:
            tensors[name] = tensor.T.contiguous()
        if "embedders" in name or "oe_embed_tokens" in name:
            tensors[name] = torch.cat([tensor, torch.full((padding, 2), 9.0)])
    other = NgramEmbedding(40, 24, embedding.spec)
    used = load_embedding(other, tensors, source="file")
    assert used == set(tensors)
    assert torch.equal(other(some_tokens()), embedding(some_tokens()))


def test_the_word_embedding_may_have_two_names_that_agree() -> None:
    embedding = longcat_embedding()
    tensors = embedding_tensors(embedding)
    alias = "model.ngram_embeddings.word_embeddings.weight"
    tensors[alias] = tensors["model.embed_tokens.weight"]
    load_embedding(longcat_embedding(), tensors, source="file")
    del tensors["model.embed_tokens.weight"]
    load_embedding(longcat_embedding(), tensors, source="file")
    tensors["model.embed_tokens.weight"] = torch.zeros(40, 24)
    with pytest.raises(InputError, match=r"word_embeddings\.weight: differs from"):
        load_embedding(longcat_embedding(), tensors, source="file")


@pytest.mark.parametrize(
    "name",
    [
        "model.ngram_embeddings.embedders.11.weight",
        "model.ngram_embeddings.post_projs.0.weight",
        "model.embed_tokens.weight",
        "model.layers.1.mlp.experts.4.up_proj.weight",
        "model.layers.0.mlp.router.e_score_correction_bias",
        "lm_head.weight",
    ],
)
def test_a_missing_tensor_is_an_error(tmp_path: Path, name: str) -> None:
    design = tiny(tmp_path)
    save_decoder(random_decoder(design), design, tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    del tensors[name]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=f"{name}: is missing"):
        load_decoder(tmp_path)


def test_shapes_and_strangers_are_errors_and_mtp_is_left_out(tmp_path: Path) -> None:
    design = tiny(tmp_path)
    save_decoder(random_decoder(design), design, tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"model.mtp.norm.weight": torch.zeros(24)}, weights)
    load_decoder(tmp_path)
    save_file(tensors | {"model.extra.weight": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match=r"model\.extra\.weight: has no place"):
        load_decoder(tmp_path)
    short = "model.ngram_embeddings.embedders.0.weight"
    save_file(tensors | {short: tensors[short][:-1].contiguous()}, weights)
    with pytest.raises(InputError, match=r"embedders\.0\.weight: has shape \[120, 2\].*\[121, 2\]"):
        load_decoder(tmp_path)


def test_shards_are_read_together(tmp_path: Path) -> None:
    design = tiny(tmp_path)
    decoder = random_decoder(design)
    save_decoder(decoder, design, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    loaded, _ = load_decoder(tmp_path)
    assert torch.equal(loaded(some_tokens()), decoder(some_tokens()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_scaling": {"type": "linear", "factor": 10.0}},
            "rope_type: must be default or yarn",
        ),
        ({"attention_bias": True}, "attention_bias"),
        ({"router_bias": True}, "router_bias"),
    ],
)
def test_what_is_not_built_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Decoder(tiny(tmp_path, **changes))
