"""The LongCat polynomial (arXiv:2601.21204 Eq. 2; LongCat-Flash-Lite modeling_longcat_ngram.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import Int64, UInt32, UInt64

from ngscale.spec import check_rows

_LANE_IDS = 2**24
"""Ids below it keep the float64 quotient of ``kernels/polynomial.block_rows`` exact."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lanes:
    """One table's polynomial as the 32-bit kernels want it (``kernels/polynomial.block_rows``)."""

    weights: tuple[np.uint32, ...]
    """``V**s mod rows``."""
    slopes: tuple[float, ...]
    """Weight over rows: what one unit of the token adds to the quotient."""
    modulus: np.uint32

    @classmethod
    def of(cls, hash_base: int, rows: int, order: int) -> Self:
        """The polynomial of one table."""
        row_weights = weights(hash_base, rows, order)
        return cls(
            weights=tuple(row_weights.astype(np.uint32)),
            slopes=tuple((row_weights / rows).tolist()),
            modulus=np.uint32(rows),
        )


def lane_columns(grams: UInt32[np.ndarray, "order G"]) -> tuple[np.ndarray, ...] | None:
    """``grams`` as the columns of the 32-bit kernels, int32; None if an id is too large."""
    if grams.size and int(grams.max()) >= _LANE_IDS:
        return None
    return tuple(np.ascontiguousarray(column).view(np.int32) for column in grams)


def gram_row_ids(
    grams: UInt32[np.ndarray, "order G"], *, hash_base: int, table_rows: int
) -> UInt32[np.ndarray, " G"]:
    """Row of every complete n-gram in one table; ``grams[s]`` is the token s places back."""
    from ngscale.kernels.polynomial import block_rows, gram_rows

    order, num_grams = grams.shape
    out = np.empty(num_grams, dtype=np.uint32)
    columns = lane_columns(grams)
    if columns is None:
        gram_rows(grams, weights(hash_base, table_rows, order), np.uint64(table_rows), out)
    else:
        lanes = Lanes.of(hash_base, table_rows, order)
        block_rows(columns, lanes.weights, lanes.slopes, lanes.modulus, 0, out)
    return out


def gram_codes(
    grams: UInt32[np.ndarray, "order G"], *, hash_base: int
) -> tuple[Int64[np.ndarray, " G"], bool] | None:
    """The polynomial itself, before any modulus, and whether it ascends from n-gram to n-gram.

    None where distinct n-grams may have the same code (an id is not below the base) or where
    codes do not fit 63 bits.
    """
    from ngscale.kernels import polynomial

    if hash_base ** len(grams) >= 2**63:
        return None
    codes = np.empty(grams.shape[1], dtype=np.int64)
    largest, ascending = polynomial.gram_codes(grams, np.int64(hash_base), codes)
    return (codes, bool(ascending)) if largest < hash_base else None


def weights(hash_base: int, rows: int, order: int) -> UInt64[np.ndarray, " order"]:
    """``V**s mod rows`` for s = 0..order-1."""
    return np.array([pow(hash_base, s, rows) for s in range(order)], dtype=np.uint64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """The polynomial as a scheme for complete n-grams: ``sum_s c_s V**s mod rows``."""

    base: int
    """V, the hash base; normally the vocabulary size."""

    @property
    def name(self) -> str:
        """``longcat``."""
        return "longcat"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, in Python integers."""
        code: int = sum(token * self.base**s for s, token in enumerate(gram))
        return code % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        return gram_row_ids(grams, hash_base=self.base, table_rows=table_rows)

    def weights(self, order: int, table_rows: int) -> list[int]:
        """The factor of each place, ``V**s mod rows``."""
        of_places: list[int] = weights(self.base, table_rows, order).tolist()
        return of_places

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Refuse sizes for which a sum could overflow 64 bits."""
        check_rows(table_rows, hash_base=max(self.base, vocab_size), max_order=max_order)

    def describe(self) -> dict[str, Any]:
        """The scheme and its base."""
        return {"name": self.name, "base": self.base}
