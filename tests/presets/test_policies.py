"""Implementations by name: every entry can be applied, and gives the published row ids."""

from dataclasses import replace
from pathlib import Path

import pytest

from ngscale.config_reader import ConfigReader
from ngscale.errors import UsageError
from ngscale.hashing.definition import averaged_exact, row_ids_exact
from ngscale.policy import MODES, Policy
from ngscale.presets.policies import SpecialIds, apply, find, implementations, special_ids
from ngscale.spec import NgramSpec, PolynomialHash, XorHash, longcat_spec
from ngscale.vectors import Vector, read_vectors
from tests.designs import policy_of

GOLDEN = read_vectors(Path(__file__).parent.parent / "golden" / "vectors.json")
IGNORED = SpecialIds(eos=2, pad=3, ignored=((36, 40),))
LONGCAT = longcat_spec(
    vocab_size=100,
    max_order=3,
    num_subtables=2,
    table_rows=(401, 403, 405, 407),
    policy=policy_of(2),
)
BIGRAM = NgramSpec(
    hash=XorHash(multipliers=(36313, 27191), arithmetic="int32"),
    vocab_size=100,
    table_orders=(2,),
    table_rows=(99,),
    reserved_rows=1,
    row_family="single",
    policy=Policy(start="reserved_row", documents="none"),
)
ENGRAM, QWEN = (
    next(vector.spec for vector in GOLDEN if vector.scheme == scheme)
    for scheme in ("engram/v4.1", "qwen4_ple")
)
OF_FAMILY = {"longcat": LONGCAT, "engram": ENGRAM, "qwen": QWEN, "bigram": BIGRAM}


@pytest.mark.parametrize("name", implementations())
def test_every_policy_makes_a_spec_and_says_where_it_is_from(name: str) -> None:
    entry = find(name)
    spec = OF_FAMILY[entry.family]
    hashed = apply(spec, name, IGNORED)
    assert (hashed.hash, hashed.table_rows) == (spec.hash, spec.table_rows)
    assert entry.confidence in ("executed", "read", "partly read", "definition")
    assert (entry.confidence == "definition") == (name in MODES and name != "hf")
    assert entry.source


@pytest.mark.parametrize(
    ("scheme", "names"),
    [
        ("longcat/hf", ("hf", "sglang>=0.5.16", "tokenspeed", "unsloth", "mindspeed")),
        ("longcat/no_eos", ("no_eos", "mlx-lm", "mlx-vlm", "sglang<=0.5.14", "sglang-fluentllm")),
        ("longcat/vllm_neg", ("vllm_neg", "vllm<=0.33.0")),
        ("longcat_next", ("next", "longcat-next")),
        ("longcat/invalid", ("invalid", "tokenspeed-invalid")),
        ("longcat/exclude", ("exclude", "tokenspeed-exclude")),
        ("modded_nanogpt/modded", ("modded-nanogpt",)),
        ("modded_nanogpt/golf", ("parameter-golf",)),
        ("nanbeige/force_prime", ("nanbeige",)),
    ],
)
def test_a_policy_gives_the_published_rows_whatever_the_spec_had_before(
    scheme: str, names: tuple[str, ...]
) -> None:
    vectors = [vector for vector in GOLDEN if vector.scheme == scheme]
    assert vectors
    for vector in vectors:
        before = Policy(documents="none")
        if vector.scheme.startswith("modded"):
            before = replace(before, start="row_zero")
        for name in names:
            spec = apply(replace(vector.spec, policy=before), name, _special(vector))
            assert row_ids_exact(vector.tokens, spec) == vector.ids


def _special(vector: Vector) -> SpecialIds:
    policy = vector.spec.policy
    eos = policy.boundary_tokens[0] if policy.boundary_tokens else vector.spec.vocab_size - 1
    return SpecialIds(eos=eos, ignored=policy.ignored_tokens)


def test_paddlefleet_fills_with_the_pad_id_and_does_not_reset() -> None:
    """HASHING 3.7: missing context = pad id, no EOS reset."""
    spec = apply(LONGCAT, "paddlefleet", SpecialIds(eos=2, pad=3))
    assert row_ids_exact([7, 2, 5], spec)[0][0] == (7 + 3 * 100) % 401
    assert row_ids_exact([7, 2, 5], spec)[2][0] == (5 + 2 * 100) % 401
    with pytest.raises(UsageError, match="paddlefleet: the config has no pad_token_id; give --pad"):
        apply(LONGCAT, "paddlefleet", SpecialIds(eos=2))


def test_the_llama_cpp_fork_ends_sequences_at_2_whatever_the_config_says() -> None:
    """HASHING 3.5: EOS = 2 hard-coded."""
    assert apply(LONGCAT, "llama.cpp-fork", SpecialIds(eos=9)).policy.boundary_tokens == (2,)


def test_the_word_stands_alone_where_an_implementation_says_so() -> None:
    """HASHING 3.3: Next divides but at ignored ids, Next-inference not at id 0 either."""
    averaged = {
        name: averaged_exact([7, 0, 36], apply(LONGCAT, name, IGNORED))
        for name in ("hf", "longcat-next", "longcat-next-inference")
    }
    assert averaged == {
        "hf": [True, True, True],
        "longcat-next": [True, True, False],
        "longcat-next-inference": [True, False, False],
    }


def test_scales_of_the_word_embedding_differ_as_the_matrix_says() -> None:
    """HASHING section 8, D3."""
    scales = {
        name: apply(LONGCAT, name, IGNORED).word_scale
        for name in implementations()
        if find(name).family == "longcat"
    }
    assert scales["hf"] == scales["vllm<=0.33.0"] == "mean"
    assert scales["mlx-vlm-sparse"] == "sum_only"
    assert scales["tokenspeed-sqrt"] == "sqrt_mean"
    assert scales["lingua-stem"] == "none"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("sglang==0.5.10", "sglang<=0.5.14"),
        ("sglang==0.5.14", "sglang<=0.5.14"),
        ("sglang==0.5.16", "sglang>=0.5.16"),
        ("sglang==0.6", "sglang>=0.5.16"),
        ("vllm==0.29.1", "vllm<=0.33.0"),
    ],
)
def test_a_version_is_the_entry_that_covers_it(asked: str, found: str) -> None:
    assert find(asked).name == found


@pytest.mark.parametrize(
    ("spec", "name", "problem"),
    [
        (LONGCAT, "sglang==0.5.15", "sglang==0.5.15: not inspected; inspected: sglang>=0.5.16, "),
        (LONGCAT, "sglang==0.5.9", "not inspected"),
        (LONGCAT, "vllm==0.34.0", "not inspected; inspected: vllm<=0.33.0"),
        (LONGCAT, "sglang", "differs by version; take sglang>=0.5.16 or sglang<=0.5.14"),
        (LONGCAT, "sglang==x", "differs by version"),
        (LONGCAT, "megatron", "megatron: not known; known: deepseek-v4.1, "),
        (LONGCAT, "qwen4_exp", "is for qwen, this model is of longcat"),
        (QWEN, "hf", "policy hf: is for longcat, this model is of qwen"),
        (ENGRAM, "mlx-lm", "is for longcat, this model is of engram"),
        (replace(BIGRAM, reserved_rows=0, policy=Policy()), "hf", "one implementation of this"),
        (replace(LONGCAT, fusion="concat"), "mlx-lm", "averages rows, this model has concat"),
        (replace(LONGCAT, hash=PolynomialHash(base=101)), "mlx-lm", "this model in 101"),
        (LONGCAT, "llama.cpp-fork", "stores the ratio as an integer"),
        (
            apply(LONGCAT, "longcat-next", IGNORED),
            "vllm<=0.33.0",
            "hashes LongCat-Next in base vocab_size",
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(spec: NgramSpec, name: str, problem: str) -> None:
    if name == "llama.cpp-fork":
        spec = replace(spec, table_rows=(410, 412, 414, 416))
    with pytest.raises(UsageError) as caught:
        apply(spec, name, IGNORED)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["exclude", "tokenspeed-invalid", "longcat-next"])
def test_policies_with_ignored_ids_need_them(name: str) -> None:
    with pytest.raises(UsageError, match=r"needs ignored ids; .* give --ignored"):
        apply(LONGCAT, name, SpecialIds(eos=2))


def test_a_policy_with_a_boundary_needs_one_of_this_vocabulary() -> None:
    with pytest.raises(UsageError, match="policy hf: the config has no eos_token_id; give --eos"):
        apply(LONGCAT, "hf", SpecialIds())
    with pytest.raises(UsageError, match="policy hf: boundary_tokens: token 100 is not below 100"):
        apply(LONGCAT, "hf", SpecialIds(eos=100))


def test_special_ids_come_from_the_config_or_the_policy_it_has() -> None:
    config = {"eos_token_id": 5, "pad_token_id": 3, "oe_ignored_token_ids": [7, 8, 9]}
    unbounded = replace(LONGCAT, policy=Policy(documents="none"))
    found = special_ids(ConfigReader(config, "config.json"), unbounded)
    assert found == SpecialIds(eos=5, pad=3, ignored=((7, 10),))
    next_spec = apply(LONGCAT, "longcat-next", IGNORED)
    assert special_ids(ConfigReader({}, "config.json"), next_spec) == SpecialIds(
        eos=2, ignored=((36, 40),)
    )
