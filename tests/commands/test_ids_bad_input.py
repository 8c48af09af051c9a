"""Configs and files of vectors that ``ngscale ids`` refuses: exit 3, one line, the key named."""

import contextlib
import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ngscale import presets
from ngscale.cli import app
from ngscale.errors import InputError
from ngscale.ngram_config import read_specs
from ngscale.vectors import check_vector, read_vectors

Config = dict[str, Any]


def preset(name: str) -> Config:
    config: Config = json.loads(presets.resolve(name).read_text())
    return config


LITE = {
    "model_type": "longcat_flash_ngram",
    "vocab_size": 131072,
    "hidden_size": 3072,
    "ngram_vocab_size_ratio": 78,
    "emb_neighbor_num": 4,
    "emb_split_num": 4,
    "eos_token_id": 2,
}
NEXT = preset("longcat-next")
NANBEIGE = LITE | {"model_type": "nanbeige", "ngram_mod_force_prime": True}
V41 = preset("deepseek-v4.1-flash")
DEMO = preset("engram-demo")
QWEN = preset("qwen3.8-flash-next")["text_config"]
OVER = preset("over-encoding-12.8m")
EXPLICIT = preset("modded-nanogpt")


def block(**changes: Any) -> Config:
    """The explicit config with other fields; a value of ``...`` leaves the field out."""
    inner = {**EXPLICIT["ngscale"], **changes}
    kept = {key: value for key, value in inner.items() if value is not ...}
    return {"model_type": "ngscale_ngram", "ngscale": kept}


def policy(**fields: Any) -> Config:
    return block(policy={"start": "reserved_row", "documents": "none", **fields})


def without(config: Config, key: str) -> Config:
    return {name: value for name, value in config.items() if name != key}


def raw(config: Config, key: str, text: str) -> str:
    """The config with ``text`` for a value, as JSON cannot be dumped."""
    return json.dumps({**config, key: "@"}).replace('"@"', text)


BAD: list[tuple[Config | str, str]] = [
    # text that is no strict JSON object
    ("", "is not JSON"),
    ('{"vocab_size": 131072', "is not JSON"),
    ("[1]", "holds no JSON object"),
    (json.dumps(LITE)[:-1] + ', "vocab_size": 5}', "vocab_size: appears twice"),
    (raw(LITE, "ngram_vocab_size_ratio", "NaN"), "NaN is not a JSON number"),
    (raw(LITE, "ngram_vocab_size_ratio", "Infinity"), "Infinity is not a JSON number"),
    (raw(LITE, "ngram_vocab_size_ratio", "1e400"), "ngram_vocab_size_ratio: holds a number beyond"),
    (raw(LITE, "vocab_size", "1e400"), "vocab_size: holds a number beyond 1.8e308"),
    (raw(LITE, "vocab_size", "9" * 5000), "is not JSON"),
    # a family that is not known, or two of them
    ({}, "model_type: null"),
    ({"model_type": "llama", "hidden_size": 8, "vocab_size": 9}, 'model_type: "llama"'),
    (LITE | {"model_type": 7}, "model_type: must be a string, got 7"),
    (LITE | {"model_type": None, "architectures": "LongcatCausalLM"}, "architectures: must be a"),
    (LITE | {"oe_grams": [2], "oe_vocab_sizes": [97]}, "oe_grams: belong to different hashes"),
    (LITE | {"engram_layer_ids": [1]}, "engram_layer_ids: belong to different hashes"),
    (QWEN | {"emb_split_num": 4}, "emb_split_num and ple_layer_ids: belong to different"),
    ({"model_type": "longcat_flash_ngram", "text_config": LITE}, "text_config: n-gram keys are"),
    ({"model_type": "qwen4_exp", "text_config": [1]}, "text_config: must be an object, got [1]"),
    ({"model_type": "longcat_flash"}, "this model has no n-gram tables"),
    # LongCat
    (LITE | {"vocab_size": -131072}, "vocab_size: must be 2..2147483647, got -131072"),
    (LITE | {"vocab_size": 0}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": 1}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": 2**63}, "vocab_size: must be 2.."),
    (LITE | {"vocab_size": True}, "vocab_size: must be a whole number, got true"),
    (LITE | {"vocab_size": "131072"}, 'vocab_size: must be a whole number, got "131072"'),
    (LITE | {"vocab_size": 131072.0}, "vocab_size: must be a whole number, got 131072.0"),
    (without(LITE, "vocab_size"), "vocab_size: is missing"),
    (without(LITE, "hidden_size"), "hidden_size: is missing"),
    (without(LITE, "emb_split_num"), "emb_split_num or oe_split_num: is missing"),
    (without(LITE, "ngram_vocab_size_ratio"), "ngram_vocab_size_ratio or oe_vocab_size_ratio: is"),
    (LITE | {"emb_neighbor_num": 1}, "emb_neighbor_num: must be 2..8, got 1"),
    (LITE | {"emb_neighbor_num": 9}, "emb_neighbor_num: must be 2..8, got 9"),
    (LITE | {"emb_neighbor_num": None}, "emb_neighbor_num or oe_neighbor_num: is missing"),
    (LITE | {"emb_split_num": 0}, "emb_split_num: must be 1.."),
    (LITE | {"emb_split_num": 2000}, "6000 tables leave no width in hidden_size 3072"),
    (LITE | {"emb_split_num": 5000, "hidden_size": 10**6}, "emb_split_num: must be 1..1365"),
    (LITE | {"ngram_vocab_size_ratio": -78}, "ngram_vocab_size_ratio: must be positive"),
    (LITE | {"ngram_vocab_size_ratio": 0}, "ngram_vocab_size_ratio: must be positive"),
    (LITE | {"ngram_vocab_size_ratio": False}, "ngram_vocab_size_ratio: must be a number"),
    (LITE | {"ngram_vocab_size_ratio": [78]}, "ngram_vocab_size_ratio: must be a number"),
    (LITE | {"ngram_vocab_size_ratio": 16384}, "ngram_vocab_size_ratio: 16384: table rows must"),
    (LITE | {"ngram_vocab_size_ratio": 1e14}, "ngram_vocab_size_ratio: 100000000000000.0: table"),
    (LITE | {"ngram_vocab_size_ratio": 10**30}, "ngram_vocab_size_ratio: must be positive"),
    (
        LITE | {"vocab_size": 2**31 - 1, "emb_neighbor_num": 8, "ngram_vocab_size_ratio": 0.99},
        "ngram_vocab_size_ratio: 0.99: table rows 2126008",
    ),
    (LITE | {"oe_vocab_size_ratio": 78.5}, "ngram_vocab_size_ratio and oe_vocab_size_ratio: dis"),
    (LITE | {"eos_token_id": None}, "eos_token_id: must be a whole number, got null"),
    (LITE | {"eos_token_id": [2, 5]}, "eos_token_id: must be a whole number, got [2, 5]"),
    (LITE | {"eos_token_id": -1}, "eos_token_id: must be 0..131071, got -1"),
    (LITE | {"eos_token_id": 131072}, "eos_token_id: must be 0..131071, got 131072"),
    (without(LITE, "eos_token_id"), "eos_token_id: is missing"),
    (LITE | {"ngscale": None}, "ngscale: must be an object"),
    (LITE | {"ngscale": {"sizes": [1]}}, "ngscale.sizes: is not known"),
    (LITE | {"ngscale": {"table_rows": [97] * 11}}, "12 tables need 12 sizes, got 11"),
    (LITE | {"ngscale": {"table_rows": [97] * 11 + [2**31]}}, "ngscale.table_rows: must be 1.."),
    (LITE | {"ngscale": {"table_rows": 97}}, "ngscale.table_rows: must be a list"),
    (LITE | {"ngscale": {"policy": "sglang"}}, "ngscale.policy: must be an object or hf"),
    (LITE | {"ngscale": {"policy": {"eos": 2}}}, "ngscale.policy.eos: is not known"),
    (LITE | {"ngscale": {"policy": "exclude"}}, "policy exclude needs ignored ids"),
    (LITE | {"ngscale": {"word_scale": 13}}, "word_scale must be one of mean"),
    # LongCat-Next
    (without(NEXT, "oe_ignored_token_ids"), "needs ignored ids (oe_ignored_token_ids)"),
    (NEXT | {"oe_ignored_token_ids": "131072:131125"}, "oe_ignored_token_ids: must be a list"),
    (NEXT | {"oe_ignored_token_ids": [131072, -1]}, "oe_ignored_token_ids: must be 0.."),
    (NEXT | {"oe_ignored_token_ids": [131072, True]}, "oe_ignored_token_ids: must be a whole"),
    (NEXT | {"oe_ignored_token_ids": False}, "oe_ignored_token_ids: must be a list"),
    (NEXT | {"special_token_scope": "131072-131125"}, "special_token_scope: must be like"),
    (NEXT | {"special_token_scope": "55:36"}, "special_token_scope: has an empty range"),
    (NEXT | {"special_token_scope": [0, 4]}, "special_token_scope: must be like"),
    (NEXT | {"text_vocab_size": None}, "text_vocab_size: must be a whole number, got null"),
    # Nanbeige
    (NANBEIGE | {"ngram_mod_force_prime": "yes"}, "ngram_mod_force_prime: must be true or false"),
    (NANBEIGE | {"ngram_fused_mode": "sum"}, "ngram_fused_mode: must be"),
    (NANBEIGE | {"emb_tp_num": 0}, "emb_tp_num: must be 1.."),
    (NANBEIGE | {"ngram_vocab_size_ratio": 10**9}, "ngram_vocab_size_ratio: 1000000000: table"),
    (NANBEIGE | {"ngram_compressed_tokenizer": "x"}, "ngram_compressed_tokenizer: which ids are"),
    # Engram
    (V41 | {"engram_num_embeddings": [384006168, 384016681]}, "engram_num_embeddings: the prime"),
    (V41 | {"engram_layer_ids": [1, 1]}, "engram_layer_ids: names a layer twice, got [1, 1]"),
    (V41 | {"engram_layer_ids": []}, "engram_layer_ids: must be a list of whole numbers"),
    (V41 | {"engram_layer_ids": 1}, "engram_layer_ids: must be a list of whole numbers, got 1"),
    (V41 | {"engram_n_heads": 10**6}, "engram_n_heads: 1000000 makes 6000000 tables"),
    (V41 | {"engram_vocab_size": 2**31 - 1}, "engram_vocab_size: 2147483647: table rows must be"),
    (V41 | {"engram_vocab_size": [16000000] * 3}, "engram_vocab_size: must be a whole number"),
    (V41 | {"engram_max_ngram_size": 1}, "engram_max_ngram_size: must be 2..8, got 1"),
    (V41 | {"engram_seed": -1}, "engram_seed: must be 0.."),
    (V41 | {"ngscale": {"fill": 99092}}, "ngscale.fill: must be 0..99091, got 99092"),
    (without(V41, "ngscale"), "fill is undecided"),
    (without(V41, "engram_compressed_vocab_size"), "engram_compressed_vocab_size: is missing"),
    (DEMO | {"n_embed_per_ngram": 513}, "n_embed_per_ngram: does not divide by 8"),
    (DEMO | {"engram_vocab_size": [646400]}, "engram_vocab_size: orders 2..3 need 2 sizes, got 1"),
    (without(DEMO, "ngscale"), "ngscale.compressed_vocab: is missing"),
    (without(DEMO, "seed"), "seed: is missing"),
    # Qwen
    (QWEN | {"eos_token_id": []}, "eos_token_id: must be a list of whole numbers, got []"),
    (QWEN | {"eos_token_id": [248320]}, "eos_token_id: must be 0..248319, got 248320"),
    (QWEN | {"eos_token_id": ["248044"]}, "eos_token_id: must be a whole number"),
    (without(QWEN, "eos_token_id"), "eos_token_id: is missing"),
    (QWEN | {"ple_embed_dim": 2561}, "ple_embed_dim: 2561 does not divide by 16 heads"),
    (QWEN | {"heads_per_ngram": 7}, "ple_embed_dim: 2560 does not divide by 14 heads"),
    (QWEN | {"heads_per_ngram": 5000}, "heads_per_ngram: 5000 makes 10000 tables"),
    (QWEN | {"ple_layer_ids": [0]}, "ple_layer_ids: must be 1.."),
    (QWEN | {"ple_layer_ids": [2, 61], "num_hidden_layers": 60}, "ple_layer_ids: counts from 1"),
    (QWEN | {"ple_layer_ids": None}, "this model has no n-gram tables"),
    (QWEN | {"ngram_vocab_size_base": 2**31 - 1}, "ngram_vocab_size_base: 2147483647: table rows"),
    (QWEN | {"make_ngram_vocab_size_divisible_by": 0}, "make_ngram_vocab_size_divisible_by: must"),
    (QWEN | {"seed": 1.5}, "seed: must be a whole number, got 1.5"),
    # Over-Encoding
    (OVER | {"oe_vocab_sizes": [12800003]}, "oe_vocab_sizes: needs 4 sizes, got 1"),
    (OVER | {"oe_grams": [2, 2, 3, 9]}, "oe_grams: must be 2..8, got 9"),
    (OVER | {"oe_grams": [2, 2, 3, 1]}, "oe_grams: must be 2..8, got 1"),
    (without(OVER, "oe_grams") | {"model_type": "x"}, 'model_type: "x"'),
    (OVER | {"vocab_size": 2**31 - 1, "oe_vocab_sizes": [2**31 - 1] * 4, "oe_grams": [8] * 4},
     "oe_vocab_sizes: [2147483647, 2147483647, 2147483647, 2147483647]: table rows"),
    # explicit
    ({"model_type": "ngscale_ngram"}, "ngscale.hash: is missing"),
    (block(hash=...), "ngscale.hash: is missing"),
    (block(hash=None), "ngscale.hash: must be an object, got null"),
    (block(hash={"kind": "sha256"}), "ngscale.hash.kind: must be"),
    (block(hash={"kind": "multiply_xor", "multipliers": [2, 3]}), "multipliers must be odd"),
    (block(hash={"kind": "multiply_xor", "multipliers": [3]}), "multipliers: order 2 needs 2"),
    (block(hash={"kind": "polynomial", "base": 1}), "ngscale.hash.base: must be 2.."),
    (block(hash={"kind": "polynomial", "base": 7, "x": 1}), "ngscale.hash.x: is not known"),
    (block(hash={"kind": "multiply_xor", "multipliers": [2**62 + 1, 3]}), "overflows 63 bits"),
    (block(table_orders=[2, 2]), "table_rows: 2 tables need 2 sizes, got 1"),
    (block(table_orders=[9]), "table_orders: must be 1..8, got 9"),
    (block(table_rows=None), "ngscale.table_rows: must be a list of whole numbers, got null"),
    (block(vocab_size="50304"), "ngscale.vocab_size: must be a whole number"),
    (block(reserved_rows=0), "start reserved_row needs one table with reserved_rows 1"),
    (block(reserved_rows=True), "ngscale.reserved_rows: must be a whole number, got true"),
    (block(row_family=["single"]), "row_family must be one of"),
    (block(fusion="stacked"), "fusion must be one of"),
    (block(mystery=1), "ngscale.mystery: is not known"),
    (block(policy=...), "ngscale.policy: is missing"),
    (block(policy=None), "ngscale.policy: must be an object, got null"),
    (policy(fill=50304), "fill: token 50304 is not below 50304"),
    (policy(boundary_tokens=[50304]), "boundary_tokens: token 50304 is not below 50304"),
    (policy(boundary_tokens=None), "ngscale.policy.boundary_tokens: must be a list"),
    (policy(boundary_tokens=2), "ngscale.policy.boundary_tokens: must be a list"),
    (policy(start="row_one"), "ngscale.policy.start: must be one of fill"),
    (policy(ignored_tokens=[[4, 4]], ignored_rule="zero"), "ignored_tokens: 4:4 is not a range"),
    (policy(ignored_tokens=[["4", 5]]), "ngscale.policy.ignored_tokens: must be a list of"),
    (policy(ignored_tokens=[[4, 5, 6]]), "ngscale.policy.ignored_tokens: must be a list of"),
    (policy(ignored_rule="zero"), "ignored_rule zero needs ignored_tokens"),
    (policy(at_boundary="row_zero"), "at_boundary row_zero needs boundary_tokens"),
    (policy(fill=None), "fill is undecided"),
]  # fmt: skip


def ids(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ids", *arguments])


def refused(result: Result, path: Path, problem: str) -> None:
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert str(path.parent.name) in result.stderr
    assert problem in result.stderr


@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: BAD[number][1][:40])
def test_a_malformed_config_is_refused_by_its_key(tmp_path: Path, number: int) -> None:
    config, problem = BAD[number]
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    refused(ids(str(path), "--tokens", "1,2,3"), path, problem)


def test_the_malformed_configs_are_many_and_their_originals_are_read(tmp_path: Path) -> None:
    assert len(BAD) >= 60
    path = tmp_path / "config.json"
    for config in (LITE, NEXT, NANBEIGE, V41, DEMO, QWEN, OVER, EXPLICIT):
        path.write_text(json.dumps(config))
        assert ids(str(path), "--tokens", "1,2,3").exit_code == 0


_JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 2**31, 2**64, 10**30, 0.5, 1e300, "", "x", [], [[]], {}, [None],
    [-1], [True], [0, 0], {"a": 1},
)  # fmt: skip


def _mutate(rng: random.Random, value: Any) -> Any:
    """One place in a JSON value replaced by junk or removed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return without(value, key)
        return {**value, key: _mutate(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        if rng.random() < 0.15:
            return value[:index] + value[index + 1 :]
        return [*value[:index], _mutate(rng, value[index]), *value[index + 1 :]]
    return copy.deepcopy(rng.choice(_JUNK))


def _survives(read: Callable[[Path], object], path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
    with contextlib.suppress(InputError):
        read(path)


def test_no_mutation_of_a_config_is_anything_but_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    for config in (LITE, NEXT, NANBEIGE, V41, DEMO, QWEN, OVER, EXPLICIT):
        for _ in range(150):
            _survives(read_specs, tmp_path / "config.json", _mutate(rng, config))


def test_no_mutation_of_a_vectors_file_is_anything_but_read_or_refused(
    tmp_path: Path, checkout: Path
) -> None:
    vectors = json.loads((checkout / "tests/golden/vectors.json").read_text())["vectors"]
    chosen = {vector["scheme"]: vector for vector in vectors}
    rng = random.Random(1)

    def read(path: Path) -> None:
        for vector in read_vectors(path):
            check_vector(vector)

    for vector in chosen.values():
        for _ in range(60):
            _survives(read, tmp_path / "vectors.json", {"vectors": [_mutate(rng, vector)]})


HF: Config = {
    "scheme": "longcat/hf",
    "config": {"vocab": 37, "ratio": 4, "n": 3, "k": 2, "eos": 2},
    "tokens": [2, 5],
    "ids": [[2, 2, 2, 2], [5, 5, 5, 5]],
    "table_sizes": [149, 151, 153, 155],
}


def test_the_vector_that_is_damaged_below_is_sound(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"vectors": [HF]}))
    assert ids("--check", str(path)).exit_code == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (json.dumps({"vectors": [HF]})[:-20], "is not JSON"),
        ("[]", "holds no JSON object"),
        ({}, "vectors: must be a list of vectors"),
        ({"vectors": []}, "vectors: must be a list of vectors, at least one"),
        ({"vectors": {"a": HF}}, "vectors: must be a list"),
        ({"vectors": [HF, 5]}, "vectors[1]: must be an object, got 5"),
        ({"vectors": [HF | {"scheme": "longcat/sglang"}]}, 'scheme: "longcat/sglang"'),
        ({"vectors": [HF | {"scheme": "fnv"}]}, 'scheme: "fnv" is not known; known: blt, '),
        ({"vectors": [HF | {"scheme": "oe/x"}]}, 'scheme: "oe/x" is not known'),
        ({"vectors": [HF | {"scheme": None}]}, "scheme: null is not known"),
        ({"vectors": [without(HF, "config")]}, "config: must be an object, got null"),
        ({"vectors": [HF | {"config": {"vocab": 37}}]}, "vectors[0]: config.n: is missing"),
        ({"vectors": [HF | {"config": HF["config"] | {"eos": 37}}]}, "token 37 is not below 37"),
        ({"vectors": [HF | {"config": HF["config"] | {"ratio": 1e9}}]}, "table rows must be"),
        ({"vectors": [HF | {"tokens": []}]}, "tokens: must be a list of whole numbers"),
        ({"vectors": [HF | {"tokens": [2, -5]}]}, "tokens: must be 0..4294967295, got -5"),
        ({"vectors": [HF | {"tokens": [2, 2**32]}]}, "tokens: must be 0..4294967295"),
        ({"vectors": [HF | {"tokens": [2, "5"]}]}, 'tokens: must be a whole number, got "5"'),
        ({"vectors": [HF | {"tokens": [2]}]}, "ids: must be a list of 1 positions"),
        ({"vectors": [HF | {"ids": [[2, 2, 2, 2]]}]}, "ids: must be a list of 2 positions"),
        ({"vectors": [HF | {"ids": [[2, 2, 2, 2], [5, 5, 5]]}]}, "ids[1]: must have 4 tables"),
        ({"vectors": [HF | {"ids": [[2, 2, 2, 2], [5, 5, 5, 155]]}]}, "ids[1][3]: must be 0..154"),
        ({"vectors": [HF | {"ids": [[2, 2, 2, 2], [5, 5, 5, -1]]}]}, "ids[1][3]: must be 0..154"),
        ({"vectors": [HF | {"ids": [[2, 2, 2, True], [5, 5, 5, 5]]}]}, "ids[0][3]: must be 0..154"),
        ({"vectors": [HF | {"lookup_mask": [True, True]}]}, "lookup_mask: must be a list of 2"),
        ({"vectors": [HF | {"lookup_mask": [[True], [True]]}]}, "lookup_mask: needs 4 booleans"),
        ({"vectors": [HF | {"divide_by_13": [1, 1]}]}, "divide_by_13: must be a list of 2 bool"),
        ({"vectors": [HF | {"table_sizes": 149}]}, "table_sizes: must be a list"),
    ],
)  # fmt: skip
def test_a_malformed_vectors_file_is_exit_3(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    refused(ids("--check", str(path)), path, problem)


def test_a_vectors_file_that_is_not_there_is_exit_3(tmp_path: Path) -> None:
    refused(ids("--check", str(tmp_path / "none.json")), tmp_path / "none.json", "cannot be read")
    refused(ids("--check", str(tmp_path)), tmp_path / "x", "cannot be read")


def test_a_token_that_a_hash_cannot_take_is_refused(tmp_path: Path, checkout: Path) -> None:
    """Ids above a text vocabulary are fine (LongCat-Next); a product beyond 63 bits is not."""
    vectors = json.loads((checkout / "tests/golden/vectors.json").read_text())["vectors"]
    qwen = next(vector for vector in vectors if vector["scheme"] == "qwen4_ple")
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"vectors": [qwen | {"tokens": [2**32 - 1, *qwen["tokens"][1:]]}]}))
    refused(ids("--check", str(path)), path, "tokens: 4294967295 cannot be hashed: ")
