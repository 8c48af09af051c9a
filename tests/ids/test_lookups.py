"""Every position that differs is found and explained; long inputs read what short ones do."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import SpecError
from ngscale.hashing.definition import read_rows_exact, row_ids_exact
from ngscale.ids.lookups import Change, Tokens, changes, look_up
from ngscale.policy import Policy, RowZero
from ngscale.presets.policies import SpecialIds, apply
from ngscale.spec import NgramSpec, XorHash, longcat_spec
from tests.designs import policy_of
from tests.specs import Case, cases, policies

SPEC = longcat_spec(
    vocab_size=100, max_order=3, num_subtables=1, table_rows=(401, 403), policy=policy_of(2)
)
SPECIAL = SpecialIds(eos=2, pad=3, ignored=((90, 100),))


def tokens_of(case: Case) -> Tokens:
    return Tokens(
        ids=tuple(case.tokens),
        segments=None if case.segments is None else tuple(case.segments),
        dead=None if case.dead is None else tuple(case.dead),
    )


def differences(
    tokens: Tokens, one: NgramSpec, two: NgramSpec, names: tuple[str, str]
) -> list[Change]:
    return changes(tokens, look_up(tokens, one), look_up(tokens, two), names)


@given(cases(), st.data())
def test_what_differs_is_what_the_definition_says_and_has_a_reason(
    case: Case, data: st.DataObject
) -> None:
    tokens = tokens_of(case)
    row_zeros: st.SearchStrategy[RowZero] = st.sampled_from(get_args(RowZero))
    one = replace(case.spec, policy=replace(case.spec.policy, row_zero=data.draw(row_zeros)))
    drawn = data.draw(policies(one.vocab_size))
    other = replace(one, policy=replace(drawn, row_zero=data.draw(row_zeros)))
    found = differences(tokens, one, other, ("one", "other"))
    assert all(change.reasons for change in found)
    expected = {}
    sides = []
    for spec in (one, other):
        segments, dead = tokens.beside(spec.policy)
        rows = row_ids_exact(tokens.ids, spec, segments=segments, dead=dead)
        read = read_rows_exact(tokens.ids, spec, segments=segments, dead=dead)
        sides.append([list(zip(*pair, strict=True)) for pair in zip(rows, read, strict=True)])
    for position, (first, second) in enumerate(zip(*sides, strict=True)):
        tables = tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        if tables:
            expected[position] = tables
    assert {change.position: change.tables for change in found} == expected


@given(cases())
def test_a_policy_does_not_differ_from_itself(case: Case) -> None:
    assert differences(tokens_of(case), case.spec, case.spec, ("one", "same")) == []


@pytest.mark.parametrize(
    ("one", "two", "tokens", "expected"),
    [
        ("hf", "mlx-lm", [7, 2, 5, 6], {
            2: ((0, 1), ("EOS (id 2) at position 1: mlx-lm sees past it",)),
            3: ((1,), ("EOS (id 2) at position 1: mlx-lm sees past it",)),
        }),
        ("hf", "vllm<=0.33.0", [7, 2, 5], {
            1: ((0, 1), ("EOS (id 2) at position 1: vllm<=0.33.0 reads row 0 of every table",)),
        }),
        ("hf", "paddlefleet", [7, 8, 9], {
            0: ((0, 1), ("missing context is id 0 in hf, id 3 in paddlefleet",)),
            1: ((1,), ("missing context is id 0 in hf, id 3 in paddlefleet",)),
        }),
        ("tokenspeed", "tokenspeed-exclude", [7, 95, 8], {
            1: ((0, 1), ("ignored id 95 at position 1: tokenspeed-exclude looks nothing up",)),
            2: ((0, 1), ("ignored id 95 at position 1: tokenspeed sees past it",)),
        }),
        ("tokenspeed", "tokenspeed-invalid", [95, 8], {
            0: ((0, 1), ("ignored id 95 at position 0: tokenspeed-invalid reads the last row",)),
            1: ((0, 1), ("ignored id 95 at position 0: tokenspeed-invalid reads the last row",)),
        }),
        ("hf", "longcat-next-inference", [7, 95], {
            1: ((0, 1), (
                "ignored id 95 at position 1: longcat-next-inference hashes it as id 0",
            )),
        }),
        ("longcat-next-inference", "longcat-next", [7, 8, 0, 9], {
            2: ((0, 1), ("id 0 at position 2: longcat-next gives it no context",)),
            3: ((1,), ("id 0 at position 2: longcat-next-inference sees past it",)),
        }),
    ],
)  # fmt: skip
def test_reasons_are_in_words(
    one: str, two: str, tokens: list[int], expected: dict[int, tuple[tuple[int, ...], tuple[str]]]
) -> None:
    specs = [apply(SPEC, name, SPECIAL) for name in (one, two)]
    found = differences(Tokens(ids=tuple(tokens)), specs[0], specs[1], (one, two))
    assert {change.position: (change.tables, change.reasons) for change in found} == expected


def test_documents_dead_positions_and_row_zero_are_reasons_too() -> None:
    packed = Tokens(ids=(7, 8, 9), segments=(0, 0, 1), dead=(False, True, False))
    by_segments = replace(SPEC, policy=Policy(documents="segment_ids"))
    plain = replace(SPEC, policy=Policy(documents="none"))
    (change,) = differences(packed, by_segments, plain, ("marin", "plain"))
    assert (change.position, change.tables) == (2, (0, 1))
    assert change.reasons == ("the document that ends at position 1: plain sees past its end",)
    blocking = replace(SPEC, policy=Policy(documents="none", dead_tokens="block"))
    first, second = differences(packed, blocking, plain, ("images", "plain"))
    assert "position 1 without text: images gives it no context" in first.reasons
    assert second.reasons == ("position 1 without text: plain sees past it",)
    zero = replace(SPEC, policy=Policy(documents="none", row_zero="zero_vector"))
    (change,) = differences(Tokens(ids=(0, 7)), zero, plain, ("zero", "plain"))
    assert (change.position, change.tables) == (0, (0, 1))
    assert change.reasons == ("row 0: zero reads it as the zero vector",)


@pytest.mark.parametrize("name", ["hf", "exclude", "next", "next_inference", "vllm_neg"])
def test_long_inputs_read_what_short_ones_do(name: str) -> None:
    """Beyond 4,096 tokens the Numba twin answers; three copies, each behind an EOS."""
    spec = apply(SPEC, name, SPECIAL)
    rng = np.random.default_rng(0)
    part = (*rng.integers(0, 100, size=1999).tolist(), 2)
    short, long = look_up(Tokens(ids=part), spec), look_up(Tokens(ids=part * 3), spec)
    assert (long.ids == np.tile(short.ids, (3, 1))).all()
    assert (long.zero == np.tile(short.zero, (3, 1))).all()
    assert (long.word_alone == np.tile(short.word_alone, 3)).all()


def test_an_id_whose_hash_would_overflow_is_refused() -> None:
    xor = NgramSpec(
        hash=XorHash(multipliers=(2**60 + 1, 3)),
        vocab_size=7,
        table_orders=(2,),
        table_rows=(97,),
        policy=Policy(documents="none"),
    )
    assert look_up(Tokens(ids=(7,)), xor).ids.tolist() == [[7 * (2**60 + 1) % 97]]
    with pytest.raises(SpecError, match="token 8 is too large to be hashed: 7 at most"):
        look_up(Tokens(ids=(1, 8)), xor)
