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
    """``(c_0 m_0 xor c_1 m_1 xor ...) mod rows``, in integers below 2**63 or in wrapping int32.

    Sources: DeepSeek ``engram_demo_v1.py``, transformers 5.23 ``Qwen4ExpTextNGramEmbedding``
    (exact); modded-nanogpt ``train_gpt.py`` at f411b3d3 (int32).
    """

    multipliers: tuple[int, ...]
    """m_s for the token s places back; odd."""
    wrapping: bool = False
    """Products wrap to int32; the residue is not negative all the same."""

    def __post_init__(self) -> None:
        """Refuse even multipliers, which would lose the low bit of every product."""
        for multiplier in self.multipliers:
            if multiplier < 1 or multiplier % 2 == 0:
                raise SpecError(f"multiply-xor: multipliers must be odd, got {multiplier}")

    @property
    def name(self) -> str:
        """``multiply-xor`` or ``multiply-xor-int32``."""
        return "multiply-xor-int32" if self.wrapping else "multiply-xor"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, in Python integers."""
        mixed = 0
        for token, multiplier in zip(gram, self.multipliers, strict=False):
            mixed ^= token * multiplier
        if self.wrapping:
            mixed = (mixed + 2**31) % 2**32 - 2**31
        return mixed % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels import mixing

        out = np.empty(grams.shape[1], dtype=np.uint32)
        multipliers = np.array(self.multipliers[: grams.shape[0]], dtype=np.uint64)
        if self.wrapping:
            mixing.int32_xor_rows(grams, multipliers.astype(np.uint32), np.uint32(table_rows), out)
        else:
            mixing.multiply_xor_rows(grams, multipliers, np.uint64(table_rows), out)
        return out

    def weights(self, order: int, table_rows: int) -> list[int]:
        """The factor of each place, as small as the arithmetic lets it be."""
        if self.wrapping:
            return [(m + 2**31) % 2**32 - 2**31 for m in self.multipliers[:order]]
        return list(self.multipliers[:order])

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Refuse products beyond 2**63 and orders without a multiplier."""
        if max_order > len(self.multipliers):
            raise SpecError(
                f"multiply-xor: order {max_order} needs {max_order} multipliers, "
                f"got {len(self.multipliers)}"
            )
        largest = max(self.multipliers[:max_order])
        if not self.wrapping and (vocab_size - 1) * largest >= 2**63:
            raise SpecError(
                f"multiply-xor: multiplier {largest} times id {vocab_size - 1} overflows 63 bits"
            )
        check_row_count(table_rows)

    def describe(self) -> dict[str, Any]:
        """The scheme and its multipliers."""
        return {"name": self.name, "multipliers": list(self.multipliers)}
