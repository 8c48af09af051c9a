"""Multiply-XOR: an odd multiplier per place, XOR, modulus (Engram, Qwen3.8 PLE)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt32

from ngscale.errors import SpecError
from ngscale.spec import check_row_count


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplyXor:
    """``(c_0 m_0 xor c_1 m_1 xor ...) mod rows``, in integers below 2**63.

    Source: DeepSeek ``engram_demo_v1.py`` and transformers 5.23 ``Qwen4ExpTextNGramEmbedding``.
    """

    multipliers: tuple[int, ...]
    """m_s for the token s places back; odd."""

    def __post_init__(self) -> None:
        """Refuse even multipliers, which would lose the low bit of every product."""
        for multiplier in self.multipliers:
            if multiplier < 1 or multiplier % 2 == 0:
                raise SpecError(f"multiply-xor: multipliers must be odd, got {multiplier}")

    @property
    def name(self) -> str:
        """``multiply-xor``."""
        return "multiply-xor"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, in Python integers."""
        mixed = 0
        for token, multiplier in zip(gram, self.multipliers, strict=False):
            mixed ^= token * multiplier
        return mixed % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels.mixing import multiply_xor_rows

        out = np.empty(grams.shape[1], dtype=np.uint32)
        multipliers = np.array(self.multipliers[: grams.shape[0]], dtype=np.uint64)
        multiply_xor_rows(grams, multipliers, np.uint64(table_rows), out)
        return out

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Refuse products beyond 2**63 and orders without a multiplier."""
        if max_order > len(self.multipliers):
            raise SpecError(
                f"multiply-xor: order {max_order} needs {max_order} multipliers, "
                f"got {len(self.multipliers)}"
            )
        largest = max(self.multipliers[:max_order])
        if (vocab_size - 1) * largest >= 2**63:
            raise SpecError(
                f"multiply-xor: multiplier {largest} times id {vocab_size - 1} overflows 63 bits"
            )
        check_row_count(table_rows)

    def describe(self) -> dict[str, Any]:
        """The scheme and its multipliers."""
        return {"name": self.name, "multipliers": list(self.multipliers)}
