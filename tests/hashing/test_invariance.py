"""A row is its n-gram's: wherever the sequence is cut, in any batch, on any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from ngscale.hashing import stream
from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.hashing.torch_twin import NgramHash, StreamState
from ngscale.policy import Policy
from ngscale.spec import Hash, NgramSpec, PolynomialHash, XorHash
from tests.specs import sample_policies

LENGTH = 64
HASHES: dict[str, tuple[Hash, int]] = {
    "exact, in floats": (PolynomialHash(base=131_072), 131_072),
    "exact, in 63 bits": (PolynomialHash(base=2**28), 2**28),
    "exact, up to 64 bits": (PolynomialHash(base=1_843_645_658), 1_600_000_000),
    "uint32": (PolynomialHash(base=131_072, arithmetic="uint32"), 131_072),
    "int64": (PolynomialHash(base=5_915_587_277, arithmetic="int64", oldest_first=True), 260),
    "xor": (XorHash(multipliers=(23703573157769, 20109073645365, 8052911324071, 31, 7)), 248_320),
    "xor in int32": (XorHash(multipliers=(36313, 27191, 51647, 9, 7), arithmetic="int32"), 50_304),
}
"""Every arithmetic of a spec, with its vocabulary."""
ROWS = (10_223_617, 97, 2**31 - 1, 3_932_160)


def spec_of(name: str, max_order: int, policy: Policy) -> NgramSpec:
    """A table of every order from 2 on."""
    hashed, vocab_size = HASHES[name]
    orders = tuple(range(2, max_order + 1))
    return NgramSpec(
        hash=hashed,
        vocab_size=vocab_size,
        table_orders=orders,
        table_rows=ROWS[: len(orders)],
        policy=policy,
    )


def sequences(spec: NgramSpec, num_sequences: int, length: int) -> np.ndarray:
    """Half of the ids below 11, which the policies mind, and the largest among the others."""
    rng = np.random.default_rng(spec.max_order)
    tokens = rng.integers(0, spec.vocab_size, size=(num_sequences, length))
    tokens[rng.random(tokens.shape) < 0.1] = spec.vocab_size - 1
    return np.where(rng.random(tokens.shape) < 0.5, rng.integers(0, 11, tokens.shape), tokens)


def exact(tokens: np.ndarray, spec: NgramSpec) -> np.ndarray:
    found = row_ids_exact(tokens.tolist(), spec)
    return np.array([[NO_ROW if row is None else row for row in rows] for rows in found])


@pytest.mark.parametrize("max_order", [2, 3, 4, 5])
@pytest.mark.parametrize("name", HASHES)
def test_all_63_cuts_and_one_by_one_give_the_rows_of_the_whole(
    name: str, max_order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a cut the torch twin gets the state; the Numba twin, which has none, one token more
    than it looks back. Policies take turns; each is also cut in ``test_torch_twin.py``.
    """
    policies = sample_policies()
    turn = list(HASHES).index(name) + max_order
    for policy in (policies[turn % 7], policies[(turn + 3) % 7]):
        spec = spec_of(name, max_order, policy)
        (tokens,) = sequences(spec, 1, LENGTH)
        expected, narrow = exact(tokens, spec), tokens.astype(np.uint32)
        twin, batch = NgramHash(spec), torch.from_numpy(tokens)[None]
        rows = torch.from_numpy(expected)[None]
        assert torch.equal(twin(batch), rows)
        assert np.array_equal(row_ids(narrow, spec), expected)
        for cut in range(1, LENGTH):
            first, second = batch[:, :cut], batch[:, cut:]
            assert torch.equal(twin(first), rows[:, :cut])
            assert torch.equal(twin(second, state=twin.advance(first)), rows[:, cut:])
            start = max(0, cut - max_order)
            behind = row_ids(narrow[start:], spec)[cut - start :]
            assert np.array_equal(row_ids(narrow[:cut], spec), expected[:cut])
            assert np.array_equal(behind, expected[cut:])
            with monkeypatch.context() as patch:
                patch.setattr(stream, "_CHUNK", cut)
                assert np.array_equal(row_ids(narrow, spec), expected)
        state: StreamState | None = None
        for t in range(LENGTH):
            token = batch[:, t : t + 1]
            assert torch.equal(twin(token, state=state), rows[:, t : t + 1])
            state = twin.advance(token, state=state)


@pytest.mark.parametrize("name", HASHES)
def test_a_permuted_batch_has_permuted_rows(name: str) -> None:
    """Eight sequences: every rotation, the reverse, and each alone."""
    spec = spec_of(name, 5, sample_policies()[0])
    tokens = sequences(spec, 8, LENGTH)
    twin, batch = NgramHash(spec), torch.from_numpy(tokens)
    rows = twin(batch)
    state = twin.advance(batch)
    orders = [[(i + shift) % 8 for i in range(8)] for shift in range(8)] + [[*range(7, -1, -1)]]
    for order in orders:
        assert torch.equal(twin(batch[order]), rows[order])
        assert torch.equal(twin.advance(batch[order]).ids, state.ids[order])
    for i, sequence in enumerate(tokens):
        assert torch.equal(twin(batch[i : i + 1])[0], rows[i])
        assert np.array_equal(row_ids(sequence.astype(np.uint32), spec), rows[i].numpy())


@pytest.mark.parametrize("name", HASHES)
def test_rows_do_not_depend_on_the_number_of_threads(name: str) -> None:
    """torch parts 200,000 positions among 1, 2 and 8 threads; so many call the Numba twin."""
    spec = spec_of(name, 5, sample_policies()[3])
    tokens = sequences(spec, 16, 12_500)
    narrow = list(tokens.astype(np.uint32))
    twin, batch = NgramHash(spec), torch.from_numpy(tokens)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            with ThreadPoolExecutor(threads) as pool:
                by_numba = list(pool.map(lambda sequence: row_ids(sequence, spec), narrow))
            found.append((twin(batch).numpy(), np.stack(by_numba)))
    finally:
        torch.set_num_threads(before)
    for by_torch, rows in found:
        assert np.array_equal(by_torch, found[0][0])
        assert np.array_equal(rows, by_torch)
