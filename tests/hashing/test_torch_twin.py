"""The torch twin against the definition: every policy and hash, every cut of a sequence."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ngscale.errors import SpecError
from ngscale.hashing.definition import averaged_exact, read_rows_exact, row_ids_exact
from ngscale.hashing.stream import NO_ROW
from ngscale.hashing.torch_twin import NgramHash, StreamState
from ngscale.policy import Policy, RowZero
from ngscale.spec import NgramSpec, PolynomialHash, XorHash, longcat_spec
from ngscale.vectors import Vector, read_vectors
from tests.designs import policy_of
from tests.hashing.test_definition import PADDED
from tests.specs import Case, cases, sample_policies

GOLDEN = read_vectors(Path(__file__).parent.parent / "golden" / "vectors.json")
QWEN = (23703573157769, 20109073645365, 8052911324071)
"""Multipliers of Qwen3.8-Flash-Next's checkpoint (I64 buffer ``layer_multipliers``)."""
INDUCTOR_WARNS = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning:torch")
"""Of its own use of a deprecated function, when it is first imported."""


class Inputs:
    """Tensors of one sequence [1, T], cut as a caller would."""

    def __init__(self, case: Case) -> None:
        self.tokens = torch.tensor([case.tokens])
        self.segments = None if case.segments is None else torch.tensor([case.segments])
        self.dead = None if case.dead is None else torch.tensor([case.dead])

    def part(self, first: int, end: int) -> dict[str, Any]:
        return {
            "tokens": self.tokens[:, first:end],
            "segments": None if self.segments is None else self.segments[:, first:end],
            "dead": None if self.dead is None else self.dead[:, first:end],
        }


def whole(case: Case) -> Tensor:
    return NgramHash(case.spec)(**Inputs(case).part(0, len(case.tokens)))  # type: ignore[no-any-return]


def exact(case: Case) -> list[list[int]]:
    rows = row_ids_exact(case.tokens, case.spec, segments=case.segments, dead=case.dead)
    return [[NO_ROW if row is None else row for row in of_tables] for of_tables in rows]


def streamed(case: Case, cuts: list[int]) -> Tensor:
    """The rows of the parts between cuts, each part given the state behind the one before."""
    twin, inputs = NgramHash(case.spec), Inputs(case)
    state: StreamState | None = None
    rows = []
    for first, end in zip([0, *cuts], [*cuts, len(case.tokens)], strict=True):
        part = inputs.part(first, end)
        rows.append(twin(**part, state=state))
        state = twin.advance(**part, state=state)
    return torch.cat(rows, dim=1)


@given(cases(), st.sampled_from(["row", "zero_vector", "zero_vector_before_modulus"]))
def test_reads_and_averages_are_those_of_the_definition(case: Case, row_zero: RowZero) -> None:
    spec = replace(case.spec, policy=replace(case.spec.policy, row_zero=row_zero))
    twin, inputs = NgramHash(spec), Inputs(case).part(0, len(case.tokens))
    ids, reads = twin.look_up(**inputs)
    expected = read_rows_exact(case.tokens, spec, segments=case.segments, dead=case.dead)
    assert torch.equal(
        torch.ones_like(ids).bool() if reads is None else reads[0:1], torch.tensor([expected])
    )
    averaged = twin.averaged(inputs["tokens"])
    alone = torch.ones_like(inputs["tokens"]).bool() if averaged is None else averaged
    assert alone.tolist() == [averaged_exact(case.tokens, spec)]


def plain(state: StreamState) -> list[Any]:
    return [None if part is None else part.tolist() for part in state]


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda v: v.scheme)
def test_published_vectors_are_reproduced(vector: Vector) -> None:
    """golden/vectors.json: ids as computed by the implementation each vector's
    ``checked_against`` names.
    """
    rows = whole(Case(vector.spec, vector.tokens, vector.segments, vector.dead))
    published = [[NO_ROW if row is None else row for row in of_tables] for of_tables in vector.ids]
    assert rows.tolist() == [published]


@given(cases())
def test_rows_equal_the_definition(case: Case) -> None:
    rows = whole(case)
    assert rows.dtype == torch.int64
    assert rows.tolist() == [exact(case)]


@given(cases(), st.data())
def test_parts_equal_the_whole(case: Case, data: st.DataObject) -> None:
    length = len(case.tokens)
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1)))) if length > 1 else []
    assert streamed(case, cuts).tolist() == [exact(case)]


def test_padding_sees_nothing_not_even_padding() -> None:
    assert whole(PADDED).tolist() == streamed(PADDED, [1, 2]).tolist() == [exact(PADDED)]


def small_spec(policy: Policy) -> NgramSpec:
    return longcat_spec(
        vocab_size=11, max_order=4, num_subtables=1, table_rows=(97, 101, 103), policy=policy
    )


def reserved_spec(start: Any) -> NgramSpec:
    """modded-nanogpt's table, and one that looks further back."""
    return NgramSpec(
        hash=XorHash(multipliers=(36313, 27191, 11, 7), arithmetic="int32"),
        vocab_size=11,
        table_orders=(4,),
        table_rows=(97,),
        reserved_rows=1,
        policy=Policy(start=start, documents="none"),
    )


@pytest.mark.parametrize(
    "spec",
    [
        *map(small_spec, sample_policies()),
        reserved_spec("reserved_row"),
        reserved_spec("reserved_row_kept"),
    ],
    ids=range(9),
)
def test_every_split_and_decoding_one_by_one_equal_the_whole(spec: NgramSpec) -> None:
    """64 tokens: the state behind a first part of any length is that of one token at a time, and
    the rows after it follow at once or one by one; chunks of every length.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 11, (64,), generator=generator).tolist()
    segments, dead = None, None
    if spec.policy.documents == "segment_ids":
        segments = torch.randint(-1, 4, (64,), generator=generator).sort().values.tolist()
        dead = (torch.rand(64, generator=generator) < 0.2).tolist()
    case = Case(spec, tokens, segments, dead)
    twin, inputs, expected = NgramHash(spec), Inputs(case), torch.tensor([exact(case)])
    assert torch.equal(whole(case), expected)
    state = None
    for t in range(64):
        assert torch.equal(twin(**inputs.part(t, t + 1), state=state), expected[:, t : t + 1])
        assert torch.equal(twin(**inputs.part(t, 64), state=state), expected[:, t:])
        state = twin.advance(**inputs.part(t, t + 1), state=state)
        assert plain(state) == plain(twin.advance(**inputs.part(0, t + 1)))
    for length in range(1, 64):
        assert torch.equal(streamed(case, list(range(length, 64, length))), expected)


def batch(num_sequences: int = 3, length: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 11, (num_sequences, length), generator=generator)


def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    twin, tokens = NgramHash(small_spec(policy_of(2))), batch()
    order = torch.tensor([2, 0, 1])
    assert torch.equal(twin(tokens[order]), twin(tokens)[order])
    assert torch.equal(twin(tokens[1:2]), twin(tokens)[1:2])
    state = twin.advance(tokens)
    assert torch.equal(twin.advance(tokens[order]).ids, state.ids[order])


def test_a_state_holds_what_the_next_position_sees() -> None:
    """N-1 ids: those behind a boundary are out of reach."""
    twin = NgramHash(small_spec(policy_of(2)))
    assert twin.advance(torch.tensor([[5, 2, 6]])).ids.tolist() == [[-1, -1, 6]]
    assert twin.advance(torch.tensor([[5]])).ids.tolist() == [[-1, -1, 5]]
    assert twin.advance(torch.tensor([[5, 6, 2]])).ids.tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize("policy", sample_policies()[:6], ids=range(6))
def test_states_behind_each_token_are_those_behind_the_first_so_many(policy: Policy) -> None:
    twin, tokens = NgramHash(small_spec(policy)), batch(length=30)
    each = twin.advance_each(tokens)
    expected = [twin.advance(tokens[:, : t + 1]).ids for t in range(30)]
    assert torch.equal(each, torch.stack(expected, dim=1))
    later = twin.advance_each(tokens[:, 20:], twin.advance(tokens[:, :20]))
    assert torch.equal(later, each[:, 20:])


def test_unigrams_have_states_of_no_ids() -> None:
    spec = replace(small_spec(policy_of(2)), table_orders=(1,), table_rows=(97,))
    assert NgramHash(spec).advance_each(batch()).shape == (3, 50, 0)
    assert NgramHash(spec).advance(batch()).ids.shape == (3, 0)


def arithmetics() -> list[NgramSpec]:
    """Every arithmetic, the exact polynomial in floats, below 2**63 and above it."""
    lite = longcat_spec(
        vocab_size=131_072,
        max_order=4,
        num_subtables=1,
        table_rows=(10_223_617, 10_223_619, 10_223_621),
        policy=policy_of(2),
    )
    wide = replace(lite, vocab_size=2**30, table_rows=(2**31 - 61, 2**31 - 19, 2**31 - 1))
    wide = replace(wide, hash=PolynomialHash(base=2**30))
    wider = replace(
        wide, vocab_size=2**31 + 1, hash=PolynomialHash(base=1_843_645_658)
    )  # large powers
    return [
        lite,
        wide,
        wider,
        replace(lite, hash=PolynomialHash(base=131_072, arithmetic="uint32")),
        replace(lite, hash=PolynomialHash(base=5_915_587_277, arithmetic="int64")),
        replace(lite, hash=XorHash(multipliers=(*QWEN, 3))),
        replace(lite, hash=XorHash(multipliers=(36313, 27191, 11, 7), arithmetic="int32")),
    ]


def ids_of(spec: NgramSpec, length: int, *, num_sequences: int = 2) -> Tensor:
    """Random ids, the largest and the smallest among them."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, spec.vocab_size, (num_sequences, length), generator=generator)
    tokens[:, ::5] = spec.vocab_size - 1
    tokens[:, 1::5] = spec.vocab_size - 1
    tokens[:, ::7] = 2
    return tokens


@pytest.mark.parametrize("spec", arithmetics(), ids=range(7))
def test_the_largest_ids_do_not_overflow(spec: NgramSpec) -> None:
    tokens = ids_of(spec, 60)
    expected = [exact(Case(spec, ids, None, None)) for ids in tokens.tolist()]
    assert NgramHash(spec)(tokens).tolist() == expected


def test_floats_serve_where_all_sums_fit_them_only() -> None:
    dtypes = [NgramHash(spec).dtype for spec in arithmetics()]
    assert dtypes == [torch.float64] + [torch.int64] * 6
    assert [NgramHash(spec).reduce_products for spec in arithmetics()[:3]] == [False, False, True]


def test_floats_serve_up_to_sums_of_2_53() -> None:
    """Ids below 2**27, weights 1 and 2**26 - 1, 2**26 rows: (2**27 - 1) 2**26 + 2**26 = 2**53."""
    spec = longcat_spec(
        vocab_size=2**27, max_order=2, num_subtables=1, table_rows=(2**26,), policy=policy_of(None)
    )
    spec = replace(spec, hash=PolynomialHash(base=2**26 - 1))
    beyond = replace(spec, vocab_size=2**27 + 1)
    assert (NgramHash(spec).dtype, NgramHash(beyond).dtype) == (torch.float64, torch.int64)
    reserved = replace(spec, vocab_size=2**20, table_rows=(2**27 + 1,))  # its first row is an id
    assert NgramHash(reserved).dtype == torch.int64
    tokens = [2**27 - 1, 2**27 - 1, 0, 2**27 - 1]
    assert NgramHash(spec)(torch.tensor([tokens])).tolist() == [
        exact(Case(spec, tokens, None, None))
    ]


@settings(max_examples=300)
@given(st.integers(1, 2**31 - 1), st.integers(0, 2**53 - 1), st.integers(0, 2))
def test_the_rounded_quotient_has_the_exact_floor(rows: int, number: int, below: int) -> None:
    """At multiples of the rows and just below them, up to the bound: x + M <= 2**53."""
    largest = 2**53 - rows
    for multiple in (min(number, largest) // rows * rows, largest // rows * rows):
        x = max(0, multiple - below)
        quotient = torch.floor(torch.tensor(x, dtype=torch.float64) / torch.tensor(rows))
        assert int(quotient) == x // rows


@settings(max_examples=50)
@given(st.integers(2, 2**18), st.integers(1, 2**31 - 1), st.integers(0, 2**50), st.integers(-1, 1))
def test_bigrams_at_and_beside_multiples_of_the_rows(
    base: int, rows: int, number: int, off: int
) -> None:
    number = max(0, number // rows * rows + off)
    older, newer = min(number // base, 2**18 - 1), number % base
    spec = longcat_spec(
        vocab_size=2**18, max_order=2, num_subtables=1, table_rows=(rows,), policy=policy_of(None)
    )
    spec = replace(spec, hash=PolynomialHash(base=base))
    assert NgramHash(spec).in_floats
    assert (
        int(NgramHash(spec)(torch.tensor([[older, newer]]))[0, 1, 0])
        == (older * base + newer) % rows
    )


@pytest.mark.parametrize(
    "spec",
    [*arithmetics()[::2], small_spec(sample_policies()[3]), small_spec(sample_policies()[5])],
    ids=range(6),
)
def test_no_graph_break_at_any_length(spec: NgramSpec) -> None:
    """One graph with dynamic shapes, with and without a state."""
    twin = NgramHash(spec)
    compiled = torch.compile(twin, fullgraph=True, dynamic=True, backend="eager")
    advance = torch.compile(twin.advance, fullgraph=True, dynamic=True, backend="eager")
    for length in (50, 23):
        tokens = ids_of(spec, length)
        extra: dict[str, Any] = {
            "segments": torch.arange(length).expand(2, -1) // 9,
            "dead": tokens % 5 == 0,
        }
        assert torch.equal(compiled(tokens, **extra), twin(tokens, **extra))
        state, compiled_state = twin.advance(tokens, **extra), advance(tokens, **extra)
        assert torch.equal(compiled_state.ids, state.ids)
        assert torch.equal(
            compiled(tokens, **extra, state=state), twin(tokens, **extra, state=state)
        )
    torch.compiler.reset()


@pytest.mark.slow
@INDUCTOR_WARNS
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize(
    "spec", [*arithmetics(), *map(small_spec, sample_policies())], ids=range(14)
)
def test_inductor_computes_the_same_rows(spec: NgramSpec) -> None:
    """Its code is vectorised, and its integers and floats are those of the C++ compiler."""
    compiled = torch.compile(NgramHash(spec), fullgraph=True)
    for length in (60, 61, 200):
        tokens = ids_of(spec, length)
        expected = [exact(Case(spec, ids, None, None)) for ids in tokens.tolist()]
        assert compiled(tokens).tolist() == expected
    torch.compiler.reset()


class CountOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("policy", sample_policies(), ids=range(7))
def test_the_operations_do_not_depend_on_the_tokens(policy: Policy) -> None:
    twin = NgramHash(small_spec(policy))
    seen = []
    for num_boundaries in (0, 1, 100):
        tokens = torch.full((2, 300), 6)
        tokens[:, : 3 * num_boundaries : 3] = 2
        with CountOps() as ops:
            twin(tokens)
        assert len(ops.names) > 10
        assert not any("item" in name or "nonzero" in name for name in ops.names)
        seen.append(ops.names)
    assert seen[0] == seen[1] == seen[2]


def test_a_cast_or_a_move_leaves_the_constants_exact() -> None:
    spec, tokens = arithmetics()[0], ids_of(arithmetics()[0], 40)
    expected = NgramHash(spec)(tokens)
    assert torch.equal(NgramHash(spec).to(torch.bfloat16)(tokens), expected)
    assert NgramHash(spec).to("cpu").dtype == torch.float64
    assert torch.equal(NgramHash(spec).half()(tokens), expected)
    with torch.device("meta"):
        twin = NgramHash(spec)
    assert torch.equal(twin.to_empty(device="cpu")(tokens), expected)
    assert not twin.state_dict()


def test_an_undecided_fill_is_refused() -> None:
    with pytest.raises(SpecError, match="fill is undecided"):
        NgramHash(small_spec(Policy(fill=None)))


@pytest.mark.gpu
@INDUCTOR_WARNS
@pytest.mark.parametrize(
    "spec", [*arithmetics(), *map(small_spec, sample_policies())], ids=range(14)
)
def test_the_same_rows_on_cuda_without_a_host_sync(spec: NgramSpec) -> None:
    tokens = ids_of(spec, 500)
    extra: dict[str, Any] = {
        "segments": torch.arange(500).expand(2, -1) // 90,
        "dead": tokens % 5 == 0,
    }
    twin = NgramHash(spec)
    expected = twin(tokens, **extra)
    state = twin.advance(tokens, **extra)
    following = twin(tokens, **extra, state=state)
    twin = twin.to("cuda")
    tokens = tokens.to("cuda")
    extra = {name: value.to("cuda") for name, value in extra.items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        rows = twin(tokens, **extra)
        rows_after = twin(tokens, **extra, state=twin.advance(tokens, **extra))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(rows.cpu(), expected)
    assert torch.equal(rows_after.cpu(), following)
    compiled = torch.compile(twin, fullgraph=True, dynamic=True)
    assert torch.equal(compiled(tokens, **extra).cpu(), expected)
