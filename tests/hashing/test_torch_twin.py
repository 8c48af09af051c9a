"""The torch twin against exact Python integers that import nothing of the package."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale.hashing.torch_twin import hash_constants, ngram_row_ids
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, longcat_spec
from tests.designs import policy_of


def naive_row_ids(
    tokens: Sequence[int],
    base: int,
    orders: Sequence[int],
    rows: Sequence[int],
    boundary: int | None,
) -> list[list[int]]:
    """HASHING: id = sum of c_s V**s mod M, c_s = t[p-s] while no boundary lies in between."""
    out = []
    for p in range(len(tokens)):
        row = []
        for order, size in zip(orders, rows, strict=True):
            code = tokens[p]
            for s in range(1, order):
                if p - s < 0 or tokens[p - s] == boundary:
                    break
                code += tokens[p - s] * base**s
            row.append(code % size)
        out.append(row)
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[NgramSpec, list[list[int]]]:
    base = draw(st.one_of(st.integers(2, 50), st.integers(2, 2**18)))
    max_order = draw(st.integers(2, 6))
    num_subtables = draw(st.integers(1, 3))
    num_tables = (max_order - 1) * num_subtables
    top = min(2**31 - 1, (2**64 - 1) // (max_order * max(1, base - 1)))
    rows = draw(st.lists(st.integers(1, top), min_size=num_tables, max_size=num_tables))
    boundary = draw(st.one_of(st.none(), st.integers(0, base - 1)))
    edge_ids = [0, base - 1, *([] if boundary is None else [boundary])]
    ids = st.one_of(st.sampled_from(edge_ids), st.integers(0, base - 1))
    length = draw(st.integers(1, 24))
    batch = draw(st.lists(st.lists(ids, min_size=length, max_size=length), min_size=1, max_size=3))
    spec = longcat_spec(
        vocab_size=base,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=tuple(rows),
        policy=policy_of(boundary),
    )
    return spec, batch


def expected(spec: NgramSpec, tokens: Sequence[int]) -> list[list[int]]:
    boundary = next(iter(spec.policy.boundary_tokens), None)
    return naive_row_ids(tokens, spec.vocab_size, spec.table_orders, spec.table_rows, boundary)


@settings(deadline=None)
@given(cases())
def test_rows_equal_exact_integers(case: tuple[NgramSpec, list[list[int]]]) -> None:
    spec, batch = case
    assert ngram_row_ids(torch.tensor(batch), spec).tolist() == [expected(spec, t) for t in batch]


@settings(deadline=None)
@given(cases(), st.integers(0, 24))
def test_decoding_with_the_last_ids_equals_one_pass(
    case: tuple[NgramSpec, list[list[int]]], cut: int
) -> None:
    spec, batch = case
    tokens = torch.tensor(batch)
    cut = min(cut, tokens.shape[1] - 1)
    past = tokens[:, :cut][:, max(0, cut - spec.max_order + 1) :]
    streamed = ngram_row_ids(tokens[:, cut:], spec, past=past)
    assert torch.equal(streamed, ngram_row_ids(tokens, spec)[:, cut:])


def test_the_largest_products_do_not_overflow() -> None:
    """int64 holds one product of the largest id and the largest size check_rows lets through."""
    base, rows = 2**31 + 1, 2**31 - 1
    spec = longcat_spec(
        vocab_size=base, max_order=2, num_subtables=1, table_rows=(rows,), policy=policy_of(None)
    )
    tokens = [base - 1, base - 1, 0, base - 1]
    assert ngram_row_ids(torch.tensor([tokens]), spec).tolist() == [expected(spec, tokens)]


def test_no_graph_break_and_the_same_rows_when_compiled() -> None:
    spec = longcat_spec(
        vocab_size=37,
        max_order=3,
        num_subtables=2,
        table_rows=(149, 151, 153, 155),
        policy=policy_of(2),
    )
    tokens = torch.randint(0, 37, (3, 50), generator=torch.Generator().manual_seed(0))
    constants = hash_constants(spec)
    compiled = torch.compile(
        lambda ids: ngram_row_ids(ids, spec, constants=constants), fullgraph=True, backend="eager"
    )
    assert torch.equal(compiled(tokens), ngram_row_ids(tokens, spec))


PUBLISHED = [
    # scheme longcat/hf: the released LongCat-Flash-Lite code, transcribed, and SGLang 0.5.23's
    # CUDA body compiled for CPU. Configs: tiny ratios of V = 37; LongCat-2.0 (V = 163,840).
    (37, 4, 3, 2, 2, [2, 2, 7], [[2, 2, 2, 2], [2, 2, 2, 2], [7, 7, 7, 7]]),
    (
        37,
        4.27,
        4,
        1,
        2,
        [8, 3, 6, 33, 2, 2, 20, 13, 10, 2, 7, 22],
        [
            [8, 8, 8],
            [141, 139, 137],
            [117, 29, 53],
            [97, 42, 50],
            [117, 157, 44],
            [2, 2, 2],
            [20, 20, 20],
            [121, 113, 105],
            [17, 31, 7],
            [56, 89, 99],
            [7, 7, 7],
            [123, 121, 119],
        ],
    ),
    (
        163_840,
        100.567,
        5,
        4,
        2,
        [0, 0, 1, 17, 23],
        [
            [0] * 16,
            [0] * 16,
            [1] * 16,
            [163_857] * 16,
            [2_785_303] * 4
            + [5_451_029, 5_447_771, 5_444_513, 5_441_255, 5_437_997, 5_434_739, 5_431_481]
            + [5_428_223, 5_424_965, 5_421_707, 5_418_449, 5_415_191],
        ],
    ),
    # scheme longcat/no_eos: the module of mlx-lm 0.32.2, run on CPU.
    (37, 4, 3, 2, None, [2, 2, 7], [[2, 2, 2, 2], [76, 76, 76, 76], [81, 81, 65, 29]]),
    (
        131_072,
        4,
        2,
        2,
        None,
        [73_674, 68_187, 114_492, 59_019, 2, 2, 116_507],
        [
            [73_674, 73_674],
            [311_913, 275_077],
            [490_662, 456_570],
            [30_396, 497_441],
            [378_464, 348_956],
            [262_146, 262_146],
            [378_651, 378_651],
        ],
    ),
]


@pytest.mark.parametrize(("base", "ratio", "order", "k", "boundary", "tokens", "ids"), PUBLISHED)
def test_rows_equal_published_implementations(
    base: int,
    ratio: float,
    order: int,
    k: int,
    boundary: int | None,
    tokens: list[int],
    ids: list[list[int]],
) -> None:
    spec = longcat_spec(
        vocab_size=base,
        max_order=order,
        num_subtables=k,
        table_rows=longcat_rows(ratio, base, (order - 1) * k),
        policy=policy_of(boundary),
    )
    assert ngram_row_ids(torch.tensor([tokens]), spec).tolist() == [ids]
