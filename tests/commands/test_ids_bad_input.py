"""Configs and files of vectors that ``ngscale ids`` refuses: exit 3, one line, the key named."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ngscale.cli import app
from ngscale.errors import InputError
from ngscale.ngram_config import read_specs
from ngscale.vectors import check_vector, read_vectors
from tests.malformed_configs import (
    BAD_TABLES,
    DEMO,
    EXPLICIT,
    LITE,
    NANBEIGE,
    NEXT,
    OVER,
    QWEN,
    V41,
    Config,
    mutated,
    without,
)


def ids(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["ids", *arguments])


def refused(result: Result, path: Path, problem: str) -> None:
    assert result.exit_code == 3, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert str(path.parent.name) in result.stderr
    assert problem in result.stderr


@pytest.mark.parametrize(
    "number", range(len(BAD_TABLES)), ids=lambda number: BAD_TABLES[number][1][:40]
)
def test_a_malformed_config_is_refused_by_its_key(tmp_path: Path, number: int) -> None:
    config, problem = BAD_TABLES[number]
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    refused(ids(str(path), "--tokens", "1,2,3"), path, problem)


def test_the_malformed_configs_are_many_and_their_originals_are_read(tmp_path: Path) -> None:
    assert len(BAD_TABLES) >= 60
    path = tmp_path / "config.json"
    for config in (LITE, NEXT, NANBEIGE, V41, DEMO, QWEN, OVER, EXPLICIT):
        path.write_text(json.dumps(config))
        assert ids(str(path), "--tokens", "1,2,3").exit_code == 0


def _survives(read: Callable[[Path], object], path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
    with contextlib.suppress(InputError):
        read(path)


def test_no_mutation_of_a_config_is_anything_but_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    for config in (LITE, NEXT, NANBEIGE, V41, DEMO, QWEN, OVER, EXPLICIT):
        for _ in range(150):
            _survives(read_specs, tmp_path / "config.json", mutated(rng, config))


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
            _survives(read, tmp_path / "vectors.json", {"vectors": [mutated(rng, vector)]})


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
