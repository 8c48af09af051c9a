"""Which rows are read, in which order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.cache.trace import (
    Order,
    check_file,
    in_turn,
    page_keys,
    rows_of_file,
    rows_of_text,
)
from ngscale.errors import InputError
from ngscale.hashing.definition import row_ids_exact
from ngscale.policy import mode_policy
from ngscale.spec import NgramSpec, longcat_spec
from ngscale.tokens import TokenStream
from tests import reference

SPEC = longcat_spec(
    vocab_size=50,
    max_order=3,
    num_subtables=2,
    table_rows=(101, 103, 107, 109),
    policy=mode_policy("hf", 2),
)
DOCUMENTS = st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=9), min_size=1, max_size=6)


def stream_of(documents: list[list[int]]) -> TokenStream:
    return TokenStream(
        tokens=np.array([token for document in documents for token in document], np.uint32),
        doc_starts=np.cumsum([0, *map(len, documents)]),
        vocab_size=50,
        num_bytes=0,
    )


def rows(documents: list[list[int]], order: Order, specs: tuple[NgramSpec, ...]) -> list[list[int]]:
    found: list[list[int]] = np.concatenate(
        list(rows_of_text(stream_of(documents), specs, order))
    ).tolist()
    return found


@given(st.lists(st.integers(1, 12), max_size=12), st.integers(1, 5), st.integers(1, 4))
def test_documents_take_turns(lengths: list[int], concurrency: int, lookahead: int) -> None:
    found = in_turn(np.array(lengths, np.int64), concurrency, lookahead)
    assert found.tolist() == reference.in_turn(lengths, concurrency, lookahead)


@given(
    DOCUMENTS,
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.integers(1, 5),
    st.integers(1, 60),
)
def test_rows_are_those_of_each_document_alone(
    documents: list[list[int]], concurrency: int, lookahead: int, cut: int | None, most: int
) -> None:
    """Whatever was read before: by the exact definition, of each document by itself."""
    order = Order(concurrency=concurrency, lookahead=lookahead, request_tokens=cut, max_tokens=most)
    alone = [row for document in documents for row in row_ids_exact(document, SPEC)]
    lengths, left = [], most
    for document in documents:
        lengths.append(min(left, len(document)))
        left -= lengths[-1]
    if cut is not None and concurrency > 1:
        lengths = [min(cut, n - at) for n in lengths for at in range(0, n, cut)]
    read = reference.in_turn([n for n in lengths if n], concurrency, lookahead)
    expected = [[*alone[at], *alone[at]] for at in read]
    assert rows(documents, order, (SPEC, SPEC)) == expected


def test_pages_of_different_tables_are_different_and_bypasses_are_none() -> None:
    held = np.array([[0, 7], [-1, 8], [3, 0]])
    assert page_keys(held, (0, 1), 4).tolist() == [0, 2**32 + 1, 2**32 + 2, 0, 2**32]


def test_a_saved_trace_is_read_back(tmp_path: Path) -> None:
    held = np.array(rows([[1, 2, 3, 4]], Order(max_tokens=9), (SPEC,)))
    np.save(tmp_path / "rows.npy", held)
    assert np.array_equal(np.concatenate(list(rows_of_file(tmp_path / "rows.npy", [SPEC]))), held)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (np.zeros((3, 5), np.int64), "5 tables, the design has 4"),
        (np.full((3, 4), 105), "row 105 is not in table 0, which has 101"),
        (np.full((3, 4), -2), "row -2"),
        (np.zeros((3, 4), np.int32), "not int64"),
        (np.zeros((0, 4), np.int64), "not int64"),
    ],
)
def test_traces_of_another_design_are_refused(
    tmp_path: Path, held: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "rows.npy", held)
    with pytest.raises(InputError, match=message):
        list(rows_of_file(tmp_path / "rows.npy", [SPEC]))


def test_a_trace_of_smaller_tables_is_refused(tmp_path: Path) -> None:
    """Rows that all exist, but lie in the lower half: no hash of this design does that."""
    held = np.random.default_rng(0).integers(0, 200, (500, 4))
    np.save(tmp_path / "rows.npy", held)
    own = replace(SPEC, table_rows=(211, 223, 227, 229))
    assert check_file(tmp_path / "rows.npy", [own]) == 500
    other = replace(SPEC, table_rows=(211, 223, 419, 229))
    with pytest.raises(InputError, match="419 rows of table 2 none beyond 199 is read"):
        check_file(tmp_path / "rows.npy", [other])


def test_a_truncated_trace_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((100, 4), np.int64))
    whole = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(whole[:-8])
    with pytest.raises(InputError, match="no whole"):
        list(rows_of_file(tmp_path / "rows.npy", [SPEC]))
