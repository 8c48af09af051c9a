"""What every hash scheme offers: an exact definition, a fast twin, and a refusal."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt32


class Scheme(Protocol):
    """How a complete n-gram becomes a row. ``gram[s]`` is the token s places back."""

    @property
    def name(self) -> str:
        """The scheme's name on the command line and in records."""

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, in Python integers."""

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Refuse ids, sizes and orders for which the arithmetic is not exact.

        Raises:
            SpecError: names the scheme and the bound.
        """

    def describe(self) -> dict[str, Any]:
        """The scheme and its parameters, for the record."""


def text_order_bytes(gram: Sequence[int]) -> bytes:
    """The n-gram as bytes, oldest token first, four little-endian bytes a token."""
    return b"".join(token.to_bytes(4, "little") for token in reversed(gram))
