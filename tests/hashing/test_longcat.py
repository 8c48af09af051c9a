from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.longcat import gram_row_ids
from ngscale.hashing.stream import row_ids
from ngscale.spec import NgramSpec, longcat_spec
from tests.designs import policy_of
from tests.reference import polynomial_row, stream_rows


@st.composite
def specs_and_tokens(draw: st.DrawFn) -> tuple[NgramSpec, list[int]]:
    base = draw(st.one_of(st.integers(2, 300), st.sampled_from([32_768, 131_072, 262_144])))
    max_order, num_subtables = draw(st.integers(2, 8)), draw(st.integers(1, 4))
    num_tables = (max_order - 1) * num_subtables
    rows = draw(
        st.lists(
            st.one_of(st.integers(1, 500), st.integers(1, 2**31 - 1)),
            min_size=num_tables,
            max_size=num_tables,
        )
    )
    boundary = draw(st.one_of(st.none(), st.sampled_from([0, base - 1, min(2, base - 1)])))
    special = [0, base - 1] if boundary is None else [0, base - 1, boundary]
    token = st.one_of(st.sampled_from(special), st.integers(0, base - 1))
    spec = longcat_spec(
        vocab_size=base,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=tuple(rows),
        policy=policy_of(boundary),
    )
    return spec, draw(st.lists(token, min_size=1, max_size=30))


@given(specs_and_tokens())
def test_definition_and_numba_twin_match_plain_python(case: tuple[NgramSpec, list[int]]) -> None:
    spec, tokens = case
    boundary = next(iter(spec.policy.boundary_tokens), None)
    plain = stream_rows(tokens, spec.vocab_size, spec.table_rows, spec.table_orders, boundary)
    assert row_ids_exact(tokens, spec) == plain
    assert row_ids(np.array(tokens, dtype=np.uint32), spec).tolist() == plain


@given(
    st.integers(2, 8),
    st.sampled_from([2, 37, 32_768, 262_144, 2**24]),
    st.integers(1, 2**31 - 1),
    st.randoms(use_true_random=False),
)
def test_rows_of_complete_ngrams_match_plain_python(
    order: int, base: int, rows: int, random: Any
) -> None:
    grams = [
        [random.choice([0, base - 1, random.randrange(base)]) for _ in range(order)]
        for _ in range(20)
    ]
    fast = gram_row_ids(np.array(grams, dtype=np.uint32).T.copy(), hash_base=base, table_rows=rows)
    assert fast.tolist() == [polynomial_row(gram, base, rows) for gram in grams]


def test_the_largest_ids_and_sizes_a_spec_admits_do_not_overflow() -> None:
    """8 products of (2**24 - 1) and (2**31 - 2) stay below 2**64: checked at the corner."""
    base, rows = 2**24, 2**31 - 1
    gram = [base - 1] * 8
    fast = gram_row_ids(np.array([gram], dtype=np.uint32).T.copy(), hash_base=base, table_rows=rows)
    assert fast.tolist() == [polynomial_row(gram, base, rows)]
