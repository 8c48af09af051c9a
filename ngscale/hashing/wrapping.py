"""Polynomials in integers that wrap: Marin's uint32, BLT's int64 (oldest byte first)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt32

from ngscale.spec import check_row_count


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappingPolynomial:
    """``sum_s c_s V**s`` with powers, products and sum wrapped, then the residue in [0, rows).

    Sources: Marin/Grug ``OverEncoding`` (JAX, uint32); BLT ``byte_group_hash_function``
    (facebookresearch/blt 9774ed4, int64, where s counts from the oldest byte).
    """

    base: int
    width: Literal["uint32", "int64"]
    oldest_first: bool = False

    @property
    def name(self) -> str:
        """``polynomial-uint32`` or ``polynomial-int64``."""
        return f"polynomial-{self.width}"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, in Python integers."""
        places = reversed(gram) if self.oldest_first else gram
        return self._wrap(sum(c * self.base**s for s, c in enumerate(places))) % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels import mixing

        order, num_grams = grams.shape
        powers = self.weights(order, table_rows)
        out = np.empty(num_grams, dtype=np.uint32)
        if self.width == "uint32":
            weights = np.array(powers, dtype=np.uint32)
            mixing.uint32_polynomial_rows(grams, weights, np.uint32(table_rows), out)
        else:
            weights = np.array(powers, dtype=np.int64)
            mixing.int64_polynomial_rows(grams, weights, np.int64(table_rows), out)
        return out

    def weights(self, order: int, table_rows: int) -> list[int]:
        """The factor of each place, newest first, wrapped."""
        powers = [self._wrap(self.base**s) for s in range(order)]
        return powers[::-1] if self.oldest_first else powers

    def _wrap(self, value: int) -> int:
        if self.width == "uint32":
            return value % 2**32
        return (value + 2**63) % 2**64 - 2**63

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Any ids below 2**32 and any order wrap as defined."""
        check_row_count(table_rows)

    def describe(self) -> dict[str, Any]:
        """The scheme and its base."""
        return {"name": self.name, "base": self.base, "oldest_first": self.oldest_first}
