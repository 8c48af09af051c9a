"""Designs from config.json and back; every refusal names the file, the key and the value."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from ngscale import presets
from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design, decoder_config, read_design
from ngscale.errors import InputError, SpecError
from ngscale.ngram_config import read_specs, spec_json
from ngscale.spec import PolynomialHash, longcat_spec
from tests.designs import decoder_designs, placed_designs, policy_of

LITE_CONFIG: dict[str, Any] = json.loads(presets.resolve("longcat-flash-lite").read_text())
DECODER_CONFIG: dict[str, Any] = {
    "model_type": "ngscale_moe",
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "moe_intermediate_size": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "emb_neighbor_num": 3,
    "emb_split_num": 1,
    "ngram_vocab_size_ratio": 2.5,
    "eos_token_id": 0,
}


def write(directory: Path, config: Any) -> Path:
    path = directory / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return path


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


@given(decoder_designs() | placed_designs())
def test_a_decoder_design_survives_its_config(
    tmp_path_factory: pytest.TempPathFactory, design: Design
) -> None:
    path = write(tmp_path_factory.mktemp("design"), decoder_config(design))
    assert read_design(path) == design


def test_tables_are_said_once(tmp_path: Path) -> None:
    spec = longcat_spec(
        vocab_size=100, max_order=2, num_subtables=1, table_rows=(9,), policy=policy_of(0)
    )
    blocks = {"ngrams": [spec_json(spec)]}
    bare = without(DECODER_CONFIG, "emb_neighbor_num", "emb_split_num", "ngram_vocab_size_ratio")
    path = write(tmp_path, bare | {"ngscale": blocks})
    assert read_design(path).ngrams == (spec,) == read_specs(path)
    with pytest.raises(InputError, match=r"emb_neighbor_num and ngscale\.ngrams"):
        read_design(write(tmp_path, bare | {"ngscale": blocks, "emb_neighbor_num": 3}))
    with pytest.raises(InputError, match=r"ngscale\.ngrams: must be a list of objects"):
        read_design(write(tmp_path, bare | {"ngscale": {"ngrams": [1]}}))


def test_ratio_gives_the_released_table_sizes(tmp_path: Path) -> None:
    """``int(ratio * vocab_size + 2i + 1)``: modeling_longcat_ngram.py."""
    design = read_design(write(tmp_path, DECODER_CONFIG))
    assert design.ngram == longcat_spec(
        vocab_size=100,
        max_order=3,
        num_subtables=1,
        table_rows=(251, 253),
        row_family="longcat",
        policy=policy_of(0),
    )


def test_oe_keys_and_ngram_keys_mean_the_same(tmp_path: Path) -> None:
    renamed = without(LITE_CONFIG, "ngram_vocab_size_ratio", "emb_neighbor_num", "emb_split_num")
    renamed |= {"oe_vocab_size_ratio": 78, "oe_neighbor_num": 4, "oe_split_num": 4}
    lite = read_design(presets.resolve("longcat-flash-lite"))
    assert read_design(write(tmp_path, renamed)) == lite


def test_null_ngram_keys_are_no_tables(tmp_path: Path) -> None:
    """Nanbeige4.2-3B publishes its switched-off n-gram keys as null."""
    keys = ("ngram_vocab_size_ratio", "emb_neighbor_num", "emb_split_num")
    assert read_design(write(tmp_path, LITE_CONFIG | dict.fromkeys(keys))).ngram is None


def test_exports_that_count_sublayers_are_halved(tmp_path: Path) -> None:
    """Re-exports of LongCat-Flash-Lite write num_hidden_layers 28 for its 14 shortcut layers."""
    config = without(LITE_CONFIG, "num_layers") | {"num_hidden_layers": 28}
    model = read_design(write(tmp_path, config)).model
    assert model.num_layers == 14


def test_extension_sizes_policy_and_amplification_are_read(tmp_path: Path) -> None:
    extension = {"table_rows": [7, 9], "policy": "no_eos", "amplification": "sqrt_d"}
    config = without(DECODER_CONFIG, "eos_token_id", "ngram_vocab_size_ratio")
    spec = read_design(write(tmp_path, config | {"ngscale": extension})).ngram
    assert spec is not None
    assert spec.table_rows == (7, 9)
    assert not spec.policy.boundary_tokens
    assert spec.amplification == "sqrt_d"


def test_a_hash_base_apart_from_the_vocabulary_is_written_out(tmp_path: Path) -> None:
    design = Design(
        model=decoder_model(
            DecoderConfig(
                vocab_size=100,
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                moe_intermediate_size=8,
                num_experts=2,
                num_experts_per_tok=1,
            )
        ),
        ngrams=(
            longcat_spec(
                vocab_size=100, max_order=2, num_subtables=1, table_rows=(9,), policy=policy_of(0)
            ),
        ),
    )
    assert design.ngram is not None
    other = replace(design, ngrams=(replace(design.ngram, hash=PolynomialHash(base=99)),))
    assert read_design(write(tmp_path, decoder_config(other))) == other


def test_a_longcat_model_is_not_written_as_a_decoder() -> None:
    with pytest.raises(SpecError, match="longcat_flash_ngram"):
        decoder_config(read_design(presets.resolve("longcat-flash-lite")))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "holds no JSON object"),
        ("\ufeff{}", "is not JSON"),
        ('{"vocab_size": 1, "vocab_size": 2}', "vocab_size: appears twice"),
        ('{"vocab_size": NaN}', "NaN is not a JSON number"),
        ('{"vocab_size": -Infinity}', "-Infinity is not a JSON number"),
        ("[" * 100_000, "is not JSON"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "is not JSON"),
    ],
)
def test_text_that_is_no_strict_json_object_is_refused(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_design(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_design(path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "gpt9", "architectures": []}, 'model_type: "gpt9"'),
        ({"model_type": None, "architectures": "Longcat"}, 'architectures: must be a list, got "L'),
        ({"model_type": ["x"], "architectures": [[]]}, 'model_type: must be a string, got ["x"]'),
        ({"hidden_size": "3072"}, 'hidden_size: must be a whole number, got "3072"'),
        ({"hidden_size": 3072.0}, "hidden_size: must be a whole number, got 3072.0"),
        ({"hidden_size": True}, "hidden_size: must be a whole number, got true"),
        ({"hidden_size": None}, "hidden_size: must be a whole number, got null"),
        ({"hidden_size": -1}, "hidden_size: must be 1..2147483647, got -1"),
        ({"hidden_size": 2**31}, "hidden_size: must be 1..2147483647, got 2147483648"),
        ({"zero_expert_num": -1}, "zero_expert_num: must be 0.."),
        ({"moe_topk": 385}, "moe_topk: 385 exceeds n_routed_experts 256 + 128 zero experts"),
        (
            {"mlp_bias": True},
            "mlp_bias: is not known to longcat_flash_ngram here, so it may",
        ),
        ({"num_hidden_layers": 27}, "num_hidden_layers: 27 contradicts num_layers 14"),
        ({"index_n_heads": 16}, 'index_k_norm_type: must be "rms" beside index_n_heads, got null'),
        ({"ngram_vocab_size_ratio": -1}, "ngram_vocab_size_ratio: must be positive"),
        ({"ngram_vocab_size_ratio": "78"}, 'ngram_vocab_size_ratio: must be a number, got "78"'),
        ({"ngram_vocab_size_ratio": 10**400}, "ngram_vocab_size_ratio: must be positive"),
        ({"ngram_vocab_size_ratio": 1e15}, "table rows must be 1..2147483647, got"),
        ({"oe_vocab_size_ratio": 77}, "ngram_vocab_size_ratio and oe_vocab_size_ratio: disagree"),
        ({"oe_vocab_size_ratio": []}, "ngram_vocab_size_ratio and oe_vocab_size_ratio: disagree"),
        ({"emb_neighbor_num": 1}, "emb_neighbor_num: must be 2.."),
        ({"emb_neighbor_num": 9}, "emb_neighbor_num: must be 2..8, got 9"),
        ({"emb_neighbor_num": None}, "emb_neighbor_num or oe_neighbor_num: is missing"),
        ({"emb_split_num": 10**9}, "3000000000 tables leave no width in hidden_size 3072"),
        ({"eos_token_id": [2, 3]}, "eos_token_id: must be a whole number, got [2, 3]"),
        ({"ngscale": []}, "ngscale: must be an object"),
        (
            {"ngscale": {"rows": []}},
            "ngscale.rows: is not known; known: amplification, amplification_factor, policy",
        ),
        (
            {"ngscale": {"table_rows": [1, 2.5]}},
            "ngscale.table_rows: must be a whole number, got 2.5",
        ),
        ({"ngscale": {"table_rows": [1, 2]}}, "need 12 sizes, got 2"),
        ({"ngscale": {"policy": "vllm"}}, "ngscale.policy: must be an object or hf"),
        ({"ngscale": {"amplification": "x2"}}, "amplification must be one of none, sqrt_d"),
    ],
)
def test_a_value_that_makes_no_design_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path, LITE_CONFIG | changes)
    with pytest.raises(InputError) as caught:
        read_design(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["vocab_size", "v_head_dim", "moe_topk", "eos_token_id"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = write(tmp_path, without(LITE_CONFIG, key))
    with pytest.raises(InputError, match=f"{key}: is missing"):
        read_design(path)


def test_an_extension_without_the_keys_it_extends_is_refused(tmp_path: Path) -> None:
    keys = ("ngram_vocab_size_ratio", "emb_neighbor_num", "emb_split_num")
    config = without(LITE_CONFIG, *keys) | {"ngscale": {"table_rows": [5]}}
    with pytest.raises(InputError, match="ngscale: is set, but the n-gram keys"):
        read_design(write(tmp_path, config))


def test_an_odd_number_of_sublayers_is_refused(tmp_path: Path) -> None:
    config = without(LITE_CONFIG, "num_layers") | {"num_hidden_layers": 27}
    with pytest.raises(InputError, match=r"num_hidden_layers: counts sub-layers, .* got 27"):
        read_design(write(tmp_path, config))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok 5 exceeds num_experts 4"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"rope_theta": 0}, "rope_theta: must be positive"),
        ({"ngram_vocab_size_ratio": None}, "nor|does not give the sizes either"),
    ],
)
def test_a_decoder_that_cannot_be_built_is_named(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        read_design(write(tmp_path, DECODER_CONFIG | changes))
