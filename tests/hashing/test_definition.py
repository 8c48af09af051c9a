"""The definition against published vectors, the Numba twin against the definition."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from ngscale.errors import SpecError
from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.policy import Policy
from ngscale.spec import longcat_spec
from ngscale.vectors import Vector, check_vector, read_vectors
from tests.designs import policy_of
from tests.specs import Case, cases

GOLDEN = read_vectors(Path(__file__).parent.parent / "golden" / "vectors.json")


def fast(case: Case) -> list[list[int | None]]:
    """The Numba twin's rows as the definition writes them."""
    found = row_ids(
        np.array(case.tokens, dtype=np.uint32),
        case.spec,
        segments=None if case.segments is None else np.array(case.segments, dtype=np.int64),
        dead=None if case.dead is None else np.array(case.dead, dtype=np.bool_),
    )
    return [[None if row == NO_ROW else int(row) for row in rows] for rows in found]


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda v: v.scheme)
def test_published_vectors_are_reproduced(vector: Vector) -> None:
    """golden/vectors.json: ids as computed by the implementation each vector's
    ``checked_against`` names.
    """
    assert check_vector(vector) is None
    assert fast(Case(vector.spec, vector.tokens, vector.segments, vector.dead)) == vector.ids


@given(cases())
def test_the_numba_twin_is_the_definition(case: Case) -> None:
    exact = row_ids_exact(case.tokens, case.spec, segments=case.segments, dead=case.dead)
    assert fast(case) == exact


def test_rows_do_not_depend_on_where_the_kernel_cuts() -> None:
    """Longer than the chunk of the Numba twin, boundaries across its cut."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, size=20_000).astype(np.uint32)
    spec = longcat_spec(
        vocab_size=50,
        max_order=5,
        num_subtables=1,
        table_rows=(997, 1009, 1013, 1019),
        policy=policy_of(2),
    )
    cut = 8192
    whole = row_ids(tokens, spec)
    around = row_ids_exact(tokens[cut - 60 : cut + 60].tolist(), spec)
    assert 2 in tokens[cut - 60 : cut - 5]
    first = next(p for p in range(60) if tokens[cut - 60 + p] == 2) + 1
    assert whole[cut - 60 + first : cut + 60].tolist() == around[first:]


PADDED = Case(
    longcat_spec(
        vocab_size=50,
        max_order=3,
        num_subtables=1,
        table_rows=(997, 1009),
        policy=Policy(documents="segment_ids", fill=7),
    ),
    [5, 6, 8, 9, 4],
    [-1, -1, -1, 0, 0],
    None,
)


def test_padding_sees_nothing_not_even_padding() -> None:
    spec, tokens, segments, _ = PADDED
    alone = [row_ids_exact([token], spec)[0] for token in tokens]
    exact = row_ids_exact(tokens, spec, segments=segments)
    assert exact[:4] == alone[:4]
    assert exact[4] != alone[4]
    assert fast(PADDED) == exact


def test_an_undecided_fill_is_refused() -> None:
    spec = longcat_spec(
        vocab_size=50, max_order=2, num_subtables=1, table_rows=(97,), policy=policy_of(2)
    )
    undecided = replace(spec, policy=Policy(fill=None))
    with pytest.raises(SpecError, match="fill is undecided"):
        row_ids_exact([1, 2], undecided)
    with pytest.raises(SpecError, match="fill is undecided"):
        row_ids(np.array([1, 2], dtype=np.uint32), undecided)
