"""Ten million n-grams of every scheme, order and published layout, row by row."""

import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from ngscale.hashing.byte_hashes import Crc32, Ideal, Murmur3
from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.registry import SCHEMES, gram_scheme
from ngscale.hashing.scheme import Scheme
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.hashing.torch_twin import NgramHash
from ngscale.policy import Policy
from ngscale.spec import Hash, NgramSpec, PolynomialHash, XorHash
from ngscale.vectors import read_vectors
from tests import reference
from tests.one_thread import one_thread

__all__ = ["one_thread"]

NUM_GRAMS = 10_000_000
LENGTH = 10_000
"""Tokens of a sequence."""


class Subject(NamedTuple):
    """A scheme, a second formulation of it in Python integers, and the vocabulary it hashes."""

    hash: Hash | Scheme
    plain: Callable[[Sequence[Any], int], Any]
    """Rows of n-grams given as one column of Python integers for each place, newest first."""
    vocab_size: int

    @property
    def scheme(self) -> Scheme:
        """How complete n-grams are hashed."""
        is_spec = isinstance(self.hash, PolynomialHash | XorHash)
        return gram_scheme(self.hash) if is_spec else self.hash  # type: ignore[arg-type, return-value]


def crc32_rows(columns: Sequence[Any], rows: int) -> Any:
    """By zlib, n-gram for n-gram."""
    packed = np.stack([column.astype("<u4") for column in columns[::-1]], axis=1).tobytes()
    size = 4 * len(columns)
    found = [zlib.crc32(packed[at : at + size]) % rows for at in range(0, len(packed), size)]
    return np.array(found, dtype=object)


def polynomial(base: int) -> Subject:
    """In base ``base``, which is the vocabulary too."""
    return Subject(
        PolynomialHash(base=base), lambda c, rows: reference.polynomial_row(c, base, rows), base
    )


def wrapping(bits: int, base: int, vocab_size: int, *, oldest_first: bool = False) -> Subject:
    """Marin's in 32 bits, BLT's in 64."""

    def plain(columns: Sequence[Any], rows: int) -> Any:
        places = columns[::-1] if oldest_first else columns
        code: Any = sum(c * base**s for s, c in enumerate(places))
        return reference.wrapped(code, bits, signed=bits == 64) % rows

    arithmetic: Any = "int64" if bits == 64 else "uint32"
    hashed = PolynomialHash(base=base, arithmetic=arithmetic, oldest_first=oldest_first)
    return Subject(hashed, plain, vocab_size)


def int32_xor_rows(columns: Sequence[Any], rows: int) -> Any:
    """The multipliers of modded-nanogpt and three more."""
    mixed = reference.multiply_xor_row(columns, MODDED, 2**200)
    return reference.wrapped(mixed, 32, signed=True) % rows


QWEN = (23703573157769, 20109073645365, 8052911324071, 31, 2**45 + 1)
"""The first three: Qwen3.8-Flash-Next's checkpoint (I64 buffer ``layer_multipliers``)."""
MODDED = (36313, 27191, 51647, 90001, 2**30 + 3)
"""The first three: modded-nanogpt f411b3d3 and HASHING section 5; the last makes products wrap."""
SUBJECTS = {
    "longcat, 32-bit lanes": polynomial(131_072),
    "longcat, 64 bits": polynomial(2**29),
    "polynomial-uint32": wrapping(32, 131_072, 131_072),
    "polynomial-int64": wrapping(64, 5_915_587_277, 131_072),
    "polynomial-int64, oldest first": wrapping(64, 1_000_000_007, 260, oldest_first=True),
    "multiply-xor": Subject(
        XorHash(multipliers=QWEN),
        lambda c, rows: reference.multiply_xor_row(c, QWEN, rows),
        248_320,
    ),
    "multiply-xor-int32": Subject(
        XorHash(multipliers=MODDED, arithmetic="int32"), int32_xor_rows, 50_304
    ),
    "crc32": Subject(Crc32(), crc32_rows, 2**32),
    "murmur3": Subject(Murmur3(seed=7), lambda c, rows: reference.murmur3_row(c, 7, rows), 2**32),
    "ideal": Subject(Ideal(seed=7), lambda c, rows: reference.ideal_row(c, 7, rows), 2**32),
}
"""Every scheme of the command line and every arithmetic of a spec, the polynomial in both kernels:
ids below and above 2**24.
"""
SIZES = (10_223_617, 2**31 - 1, 3_932_160, 2**31 - 2, 20_000_003, 8_388_608, 97, 1)
"""Lite's first table, a prime, 30 x 131,072, an even one, Qwen's first, a power of two, small."""


def agreeing_grams(subject: Subject, order: int, num_grams: int) -> int:
    """How many random n-grams have the rows of the plain formulation in both twins.

    A tenth of the ids are the smallest or the largest one; sizes change from block to block.
    """
    rng = np.random.default_rng(order)
    compared, block = 0, min(num_grams // len(SIZES), 250_000)
    while compared < num_grams:
        rows = SIZES[compared // block % len(SIZES)]
        grams = rng.integers(0, subject.vocab_size, size=(order, block), dtype=np.uint32)
        edges = rng.choice([0, subject.vocab_size - 1], size=grams.shape)
        grams = np.where(rng.random(grams.shape) < 0.1, edges, grams).astype(np.uint32)
        expected = subject.plain([column.astype(object) for column in grams], rows)
        assert all(type(row) is int for row in expected[:100])
        by_numba = subject.scheme.rows(grams, rows)
        assert np.array_equal(by_numba, expected.astype(np.int64))
        if isinstance(subject.hash, PolynomialHash | XorHash):
            spec = NgramSpec(
                hash=subject.hash,
                vocab_size=subject.vocab_size,
                table_orders=(order,),
                table_rows=(rows,),
                policy=Policy(documents="none"),
            )
            oldest_first = torch.from_numpy(grams[::-1].T.astype(np.int64))
            by_torch = NgramHash(spec)(oldest_first)[:, -1, 0]
            assert np.array_equal(by_torch.numpy(), expected.astype(np.int64))
        compared += block
    return compared


def test_every_scheme_has_a_second_formulation() -> None:
    names = {subject.scheme.name for subject in SUBJECTS.values()}
    wrapping_ones = {"polynomial-uint32", "polynomial-int64", "multiply-xor-int32"}
    assert names == {*SCHEMES, *wrapping_ones}


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("name", SUBJECTS)
def test_complete_n_grams_have_the_rows_of_python_integers(name: str, order: int) -> None:
    assert agreeing_grams(SUBJECTS[name], order, 100_000) == 100_000


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("name", SUBJECTS)
def test_ten_million_complete_n_grams_have_the_rows_of_python_integers(
    name: str, order: int
) -> None:
    """None is sampled: the plain formulation, too, computes all of them, in Python integers."""
    assert agreeing_grams(SUBJECTS[name], order, NUM_GRAMS) == NUM_GRAMS


def published_specs() -> dict[str, NgramSpec]:
    """Of every scheme in golden/vectors.json its largest configuration."""
    specs: dict[str, NgramSpec] = {}
    for vector in read_vectors(Path(__file__).parent.parent / "golden" / "vectors.json"):
        known = specs.get(vector.scheme)
        if known is None or sum(vector.spec.table_rows) > sum(known.table_rows):
            specs[vector.scheme] = vector.spec
    return specs


def random_tokens(spec: NgramSpec, rng: np.random.Generator) -> np.ndarray:
    """A sequence, a tenth of it ids that the policy minds and the smallest and largest ids."""
    special = [0, spec.vocab_size - 1, *spec.policy.boundary_tokens]
    special += [token for first, end in spec.policy.ignored_tokens for token in (first, end - 1)]
    tokens = rng.integers(0, spec.vocab_size, size=LENGTH)
    return np.where(rng.random(LENGTH) < 0.1, rng.choice(special, size=LENGTH), tokens)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", published_specs())
def test_definition_and_both_twins_agree_on_ten_million_n_grams(scheme: str) -> None:
    """None is sampled: the definition, too, computes all of them, in Python integers."""
    spec = published_specs()[scheme]
    rng = np.random.default_rng(0)
    twin = NgramHash(spec)
    compared = 0
    for _ in range(math.ceil(NUM_GRAMS / (LENGTH * spec.num_tables))):
        tokens = random_tokens(spec, rng)
        segments, dead = None, None
        if spec.policy.documents == "segment_ids":
            segments = np.sort(rng.integers(-1, 300, size=LENGTH))
        if spec.policy.dead_tokens == "block":
            dead = rng.random(LENGTH) < 0.1
        exact = row_ids_exact(
            tokens.tolist(),
            spec,
            segments=None if segments is None else segments.tolist(),
            dead=None if dead is None else dead.tolist(),
        )
        expected = np.array([[NO_ROW if row is None else row for row in rows] for rows in exact])
        by_numba = row_ids(tokens.astype(np.uint32), spec, segments=segments, dead=dead)
        by_torch = twin(
            torch.from_numpy(tokens)[None],
            segments=None if segments is None else torch.from_numpy(segments)[None],
            dead=None if dead is None else torch.from_numpy(dead)[None],
        )
        assert np.array_equal(by_numba, expected)
        assert np.array_equal(by_torch[0].numpy(), expected)
        compared += expected.size
    assert compared >= NUM_GRAMS
