"""The recipe of reports/*-audit-lattice-score: what it draws and how it correlates."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import spearmanr

from ngscale.tokens import TokenStream
from reports.lattice_score import (
    HIGH_RATIO,
    LOW_RATIO,
    MAX_OFFSET,
    MAX_Q,
    correlations,
    draw_sizes,
    permuted,
)


def test_sizes_are_drawn_off_the_fractions_the_same_for_the_same_seed() -> None:
    drawn = draw_sizes(7, 200)
    assert drawn == draw_sizes(7, 200)
    assert drawn != draw_sizes(8, 200)
    near = [draw for draw in drawn if draw.q is not None]
    assert len(near) == 100
    for draw in drawn:
        assert LOW_RATIO <= draw.ratio < HIGH_RATIO
    for draw in near:
        assert draw.p is not None
        assert draw.q is not None
        assert 1 <= draw.q <= MAX_Q
        assert math.gcd(draw.p, draw.q) == 1
        for base in (32_768, 131_072, 262_145):
            off = abs(draw.rows(base) - Fraction(draw.p * base, draw.q))
            assert Fraction(1, 2) <= off <= MAX_OFFSET + Fraction(1, 2)


def test_correlations_are_spearmans_with_the_sign_of_each_predictor() -> None:
    rng = np.random.default_rng(0)
    excess = rng.normal(size=60)
    measured = {
        "excess": excess.tolist(),
        "score": (excess + rng.normal(size=60)).round(1).tolist(),
        "length": (-excess).tolist(),
        "integer_distance": rng.normal(size=60).tolist(),
    }
    coprime = [at % 3 == 0 for at in range(60)]
    found = correlations(measured, coprime, seed=1)
    assert found["score"][0] == pytest.approx(spearmanr(measured["score"], excess).statistic)
    assert found["length"] == pytest.approx([1.0, 1.0, 1.0])
    assert found["integer_distance"][0] == pytest.approx(
        -spearmanr(measured["integer_distance"], excess).statistic
    )
    assert found["score_coprime"][0] == pytest.approx(
        spearmanr(measured["score"][::3], excess[::3]).statistic
    )
    for rho, low, high in found.values():
        assert low <= rho <= high


def test_the_control_renumbers_ids_and_keeps_the_text() -> None:
    tokens = np.array([5, 1, 5, 2, 1], dtype=np.uint32)
    stream = TokenStream(
        tokens=tokens, doc_starts=np.array([0, 5]), vocab_size=50, num_bytes=0, known_sha256="x"
    )
    renumbered = permuted(stream, 3).tokens
    assert len(set(renumbered.tolist())) == 3
    assert [renumbered.tolist().index(t) for t in renumbered.tolist()] == [0, 1, 0, 3, 1]
    assert permuted(stream, 3).known_sha256 == ""
