from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import SpecError
from ngscale.policy import Policy
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, check_rows, longcat_spec
from tests.designs import policy_of


def spec(**changes: object) -> NgramSpec:
    fields: dict[str, object] = {
        "vocab_size": 100,
        "max_order": 3,
        "num_subtables": 2,
        "table_rows": (11, 13, 17, 19),
        "policy": policy_of(2),
    }
    return longcat_spec(**{**fields, **changes})  # type: ignore[arg-type]


def test_tables_are_numbered_order_major() -> None:
    """HASHING section 2: i = (order-2)*K + k."""
    assert list(spec().table_orders) == [2, 2, 3, 3]


def test_longcat_rows_are_those_of_flash_lite() -> None:
    """EVIDENCE section 6 item 1: 10,223,617 .. 10,223,639 step 2 (ratio 78, V0 131,072)."""
    assert longcat_rows(78, 131_072, 12) == tuple(range(10_223_617, 10_223_640, 2))


def test_longcat_rows_of_a_fractional_ratio_follow_float_arithmetic() -> None:
    """HASHING 3.4: LongCat-2.0, M_i = 16,476,898 + 2i; 59.604 gives 9,765,520 (section 3.5)."""
    assert longcat_rows(100.567, 163_840, 16)[:2] == (16_476_898, 16_476_900)
    assert longcat_rows(59.604, 163_840, 1) == (9_765_520,)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_order": 1}, "max_order"),
        ({"max_order": 9}, "max_order"),
        ({"num_subtables": 0}, "num_subtables"),
        ({"vocab_size": 1}, "hash_base"),
        ({"table_rows": (11, 13, 17)}, "table_rows"),
        ({"table_rows": (11, 13, 17, 0)}, "got 0"),
        ({"table_rows": (11, 13, 17, 2**31)}, str(2**31)),
        ({"policy": Policy(boundary_tokens=(100,))}, "token 100"),
        ({"amplification": "loud"}, "amplification"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused_by_name(
    changes: dict[str, object], named: str
) -> None:
    with pytest.raises(SpecError, match=named):
        spec(**changes)


def test_a_size_whose_sums_could_overflow_is_refused() -> None:
    check_rows(2**31 - 1, hash_base=2**29, max_order=8)
    with pytest.raises(SpecError, match="overflow"):
        check_rows(2**31 - 1, hash_base=2**31, max_order=8)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=6))
def test_merged_ranges_hold_the_same_ids(spans: list[tuple[int, int]]) -> None:
    policy = Policy(ignored_tokens=tuple((first, first + size) for first, size in spans))
    merged = policy.ignored_ranges
    assert [i for first, end in merged for i in range(first, end)] == [
        i for i in range(30) if policy.ignores(i)
    ]
    assert all(end < first for (_, end), (first, _) in pairwise(merged))
