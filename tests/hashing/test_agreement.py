"""Ten million n-grams of every published scheme: the definition and both twins, row by row."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.hashing.torch_twin import NgramHash
from ngscale.spec import NgramSpec
from ngscale.vectors import read_vectors

NUM_GRAMS = 10_000_000
LENGTH = 10_000
"""Tokens of a sequence."""


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
