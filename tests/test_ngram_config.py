"""Configs of every family -> the specs of HASHING's facts; every spec -> JSON -> the same spec."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from ngscale.config_reader import ConfigReader
from ngscale.errors import InputError
from ngscale.hashing.definition import row_ids_exact
from ngscale.ngram_config import read_explicit, read_specs, spec_json
from ngscale.policy import Policy, mode_policy
from ngscale.spec import NgramSpec, PolynomialHash, XorHash
from ngscale.vectors import Vector, read_vectors
from tests.specs import Case, cases

GOLDEN = read_vectors(Path(__file__).parent / "golden" / "vectors.json")
SMALL: dict[str, Any] = {
    "model_type": "longcat_flash_ngram",
    "vocab_size": 100,
    "hidden_size": 64,
    "ngram_vocab_size_ratio": 4,
    "emb_neighbor_num": 3,
    "emb_split_num": 2,
    "eos_token_id": 2,
}
QWEN: dict[str, Any] = {
    "model_type": "qwen4_exp_text",
    "vocab_size": 248320,
    "hidden_size": 2560,
    "ple_layer_ids": [2],
    "eos_token_id": [248044, 248046],
}
V41: dict[str, Any] = {
    "model_type": "deepseek_v41",
    "engram_layer_ids": [1, 14],
    "engram_num_embeddings": [384006168, 384016682],
    "engram_max_ngram_size": 4,
    "engram_vocab_size": 16000000,
    "engram_n_heads": 8,
    "engram_head_dim": 256,
    "engram_compressed_vocab_size": 99092,
}


@pytest.fixture
def specs(tmp_path: Path) -> Any:
    """``config -> specs``, through a file."""

    def read(config: dict[str, Any]) -> tuple[NgramSpec, ...]:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        return read_specs(path)

    return read


def golden(scheme: str) -> Vector:
    return next(vector for vector in GOLDEN if vector.scheme == scheme)


def test_longcat_has_its_sizes_and_resets_at_its_eos(specs: Any) -> None:
    """HASHING 3.1: int(ratio*V + 2i + 1), order-major."""
    (spec,) = specs(SMALL)
    assert spec.table_rows == (401, 403, 405, 407)
    assert spec.table_orders == (2, 2, 3, 3)
    assert spec.hash == PolynomialHash(base=100)
    assert spec.policy == mode_policy("hf", 2)
    assert spec.word_scale == "mean"


def test_oe_models_say_the_same_with_other_keys(specs: Any) -> None:
    """HASHING 3.4: LongcatCausalLM has no model_type; its hash is that of 3.1."""
    renamed = {
        "architectures": ["LongcatCausalLM"],
        "oe_vocab_size_ratio": 4,
        "oe_neighbor_num": 3,
        "oe_split_num": 2,
        **{key: SMALL[key] for key in ("vocab_size", "hidden_size", "eos_token_id")},
    }
    assert specs(renamed) == specs(SMALL)
    # HASHING 3.4: oe_ignored_token_ids is honoured by nobody for this architecture.
    assert specs(renamed | {"oe_ignored_token_ids": [90, 91]}) == specs(SMALL)


def test_the_extension_block_says_what_the_keys_cannot(specs: Any) -> None:
    block = {
        "policy": "no_eos",
        "word_scale": "sqrt_mean",
        "row_multiple": 8,
        "table_rows": [97] * 4,
    }
    (spec,) = specs(SMALL | {"ngscale": block})
    assert (spec.policy, spec.word_scale) == (mode_policy("no_eos", None), "sqrt_mean")
    assert (spec.table_rows, spec.physical_rows) == ((97,) * 4, 4 * 104)
    fields = {"boundary_tokens": [7], "fill": 3}
    (spec,) = specs(SMALL | {"ngscale": {"policy": fields}})
    assert spec.policy == Policy(boundary_tokens=(7,), fill=3)


def test_longcat_next_hashes_in_the_base_of_its_text(specs: Any) -> None:
    """HASHING 3.3: V = text_vocab_size, not vocab_size; 53 ignored ids above it."""
    config = SMALL | {
        "architectures": ["LongcatNextForCausalLM"],
        "vocab_size": 120,
        "text_vocab_size": 100,
        "oe_ignored_token_ids": [102, 100, 101],
    }
    (spec,) = specs(config)
    assert (spec.hash, spec.vocab_size) == (PolynomialHash(base=100), 100)
    assert spec.table_rows == (401, 403, 405, 407)
    assert spec.policy == mode_policy("next", 2, ((100, 103),))
    scope = {"special_token_scope": "0:4,36:55"}
    (spec,) = specs(config | scope)
    assert spec.policy.ignored_tokens == ((0, 4), (36, 55))


def test_nanbeige_has_consecutive_primes_and_a_prime_base(specs: Any) -> None:
    """HASHING 3.6, against the config of golden/vectors.json nanbeige/force_prime."""
    vector = golden("nanbeige/force_prime")
    config = {
        "model_type": "nanbeige",
        "vocab_size": vector.spec.vocab_size,
        "hidden_size": 4096,
        "emb_neighbor_num": vector.spec.max_order,
        "emb_split_num": vector.spec.num_subtables,
        "ngram_mod_force_prime": True,
        "emb_tp_num": 8,
        "eos_token_id": vector.spec.policy.boundary_tokens[0],
    }
    raw = json.loads((Path(__file__).parent / "golden" / "vectors.json").read_text())
    ratio = next(
        entry["config"]["ratio"]
        for entry in raw["vectors"]
        if entry["scheme"] == "nanbeige/force_prime"
    )
    (spec,) = specs(config | {"ngram_vocab_size_ratio": ratio})
    assert row_ids_exact(vector.tokens, spec) == vector.ids
    assert spec.physical_rows % 8 == 0 < spec.physical_rows - sum(spec.table_rows)
    (plain,) = specs(config | {"ngram_vocab_size_ratio": ratio, "ngram_mod_force_prime": False})
    assert plain.row_family == "longcat"
    (concat,) = specs(
        config | {"ngram_vocab_size_ratio": ratio, "ngram_fused_mode": "concat", "emb_tp_num": None}
    )
    assert (concat.fusion, concat.word_scale, concat.row_multiple) == ("concat_rows", "none", 1)


def test_nanbeige_as_released_has_no_tables(specs: Any) -> None:
    """HASHING 9.2: Nanbeige4.2-3B leaves all of it null."""
    off = dict.fromkeys(("emb_neighbor_num", "emb_split_num", "ngram_vocab_size_ratio"))
    with pytest.raises(InputError, match="this model has no n-gram tables"):
        specs(SMALL | {"model_type": "nanbeige", **off})


def test_deepseek_has_both_published_row_counts_and_the_vector_s_rows(specs: Any) -> None:
    """HASHING 1 and 9.2: 384,006,168 and 384,016,682 rows in layers 1 and 14."""
    first, second = specs(V41 | {"ngscale": {"fill": golden("engram/v4.1").spec.policy.fill}})
    assert (sum(first.table_rows), sum(second.table_rows)) == (384_006_168, 384_016_682)
    assert (first.layers, second.layers) == ((1,), (14,))
    assert first.policy.dead_tokens == "block"
    vector = golden("engram/v4.1")
    assert vector.spec.layers in ((1,), (14,))
    spec = first if vector.spec.layers == (1,) else second
    assert row_ids_exact(vector.tokens, spec, dead=vector.dead) == vector.ids
    assert specs(V41)[0].policy.fill is None


def test_the_engram_demo_takes_its_own_keys(specs: Any) -> None:
    """HASHING 9.2; engram_demo_v1.py: sizes [646400]*2, 8 heads of 64 columns, layers 1 and 15."""
    demo = {
        "engram_vocab_size": [646400, 646400],
        "max_ngram_size": 3,
        "n_embed_per_ngram": 512,
        "n_head_per_ngram": 8,
        "layer_ids": [1, 15],
        "seed": 0,
        "ngscale": {"compressed_vocab": 5000, "fill": 2},
    }
    first, second = specs(demo)
    assert (first.num_tables, first.row_width, first.layers) == (16, 64, (1,))
    pool = first.table_rows + second.table_rows
    assert len(set(pool)) == len(pool)
    assert min(pool) >= 646_400
    assert first.hash != second.hash
    assert first.policy == Policy(fill=2, documents="none")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("eos", [248044, [248044, 248046]])
def test_qwen_has_its_published_multipliers_and_rows(
    specs: Any, nested: bool, eos: int | list[int]
) -> None:
    """HASHING 5.2: three multipliers; 20,000,003 .. 20,000,171; 320,001,446, padded ..536."""
    text = QWEN | {"eos_token_id": eos}
    config = {"model_type": "qwen4_exp", "text_config": text} if nested else text
    (spec,) = specs(config)
    assert isinstance(spec.hash, XorHash)
    assert spec.hash.multipliers == (23703573157769, 20109073645365, 8052911324071)
    assert (spec.table_rows[0], spec.table_rows[-1]) == (20_000_003, 20_000_171)
    assert (sum(spec.table_rows), spec.physical_rows) == (320_001_446, 320_001_536)
    assert (spec.row_width, spec.layers) == (160, (1,))
    assert spec.policy == Policy(boundary_tokens=(248044,), fill=248044)


def test_layers_of_qwen_are_a_set_and_follow_each_other(specs: Any) -> None:
    """transformers 5.23 configuration_qwen4_exp.py: ``sorted(set(ple_layer_ids))``."""
    layers = specs(QWEN | {"ple_layer_ids": [5, 2, 5], "ngram_vocab_size_base": 1000})
    assert [spec.layers for spec in layers] == [(1,), (4,)]
    assert layers[0].table_rows[-1] < layers[1].table_rows[0]


def test_over_encoding_takes_any_orders_and_sizes(specs: Any) -> None:
    """HASHING 4, golden values of mojo_opset: 1..5 -> 1, 12, 123, 1234, 2345 for order 4."""
    (spec,) = specs({"vocab_size": 10, "oe_grams": [4, 2], "oe_vocab_sizes": [10_000, 10_000]})
    rows = row_ids_exact([1, 2, 3, 4, 5], spec)
    assert [first for first, _ in rows] == [1, 12, 123, 1234, 2345]
    assert (spec.fusion, spec.word_scale, spec.policy.resets) == ("concat", "none", False)


@given(cases())
def test_every_spec_survives_its_json(case: Case) -> None:
    text = json.dumps({"ngscale": spec_json(case.spec)})
    assert read_explicit(ConfigReader(json.loads(text), "config.json")) == case.spec


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda vector: vector.scheme)
def test_every_published_scheme_survives_its_json(vector: Vector) -> None:
    text = json.dumps({"ngscale": spec_json(vector.spec)})
    assert read_explicit(ConfigReader(json.loads(text), "config.json")) == vector.spec
