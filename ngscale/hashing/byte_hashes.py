"""General-purpose hashes of the tokens' bytes, for comparison with the schemes models ship.

No published model uses them; they show what a hash without the polynomial's lattice gives. Bytes:
oldest token first, four little-endian bytes a token.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt32

from ngscale.errors import SpecError
from ngscale.hashing.scheme import text_order_bytes
from ngscale.spec import check_row_count

_MASK64 = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Crc32:
    """``crc32(bytes) mod rows`` (ISO-HDLC, the CRC of zlib and PNG)."""

    @property
    def name(self) -> str:
        """``crc32``."""
        return "crc32"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition: zlib's own CRC."""
        return zlib.crc32(text_order_bytes(gram)) % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels.mixing import crc32_rows

        out = np.empty(grams.shape[1], dtype=np.uint32)
        crc32_rows(grams, _crc_table(), np.uint64(table_rows), out)
        return out

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Any ids below 2**32 and any order are exact."""
        check_row_count(table_rows)

    def describe(self) -> dict[str, Any]:
        """The scheme."""
        return {"name": self.name}


def _crc_table() -> UInt32[np.ndarray, "256"]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Murmur3:
    """``MurmurHash3_x86_32(bytes, seed) mod rows`` (Appleby, public domain)."""

    seed: int = 0

    @property
    def name(self) -> str:
        """``murmur3``."""
        return "murmur3"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, 32-bit words in Python integers; there is never a tail."""
        mask = 2**32 - 1
        h = self.seed
        for token in reversed(gram):
            k = token * 0xCC9E2D51 & mask
            k = (k << 15 | k >> 17) & mask
            h ^= k * 0x1B873593 & mask
            h = ((h << 13 | h >> 19) & mask) * 5 + 0xE6546B64 & mask
        h ^= 4 * len(gram)
        h = (h ^ h >> 16) * 0x85EBCA6B & mask
        h = (h ^ h >> 13) * 0xC2B2AE35 & mask
        return (h ^ h >> 16) % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels.mixing import murmur3_rows

        out = np.empty(grams.shape[1], dtype=np.uint32)
        murmur3_rows(grams, np.uint32(self.seed), np.uint64(table_rows), out)
        return out

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Any ids below 2**32 and any order are exact; the seed has 32 bits."""
        check_row_count(table_rows)
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"murmur3: the seed has 32 bits, got {self.seed}")

    def describe(self) -> dict[str, Any]:
        """The scheme and its seed."""
        return {"name": self.name, "seed": self.seed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ideal:
    """A keyed 64-bit mix, one splitmix64 step a token: stands for an independent uniform row.

    Other seeds are other draws of the ideal hash whose expectation ``collisions/expected.py``
    computes. splitmix64: Steele, Lea and Flood, OOPSLA 2014.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        """``ideal``."""
        return "ideal"

    def row_exact(self, gram: Sequence[int], table_rows: int) -> int:
        """The definition, 64-bit words in Python integers."""
        state = self._key
        for token in reversed(gram):
            state = _mix64((state + 0x9E3779B97F4A7C15 & _MASK64) ^ token)
        return state % table_rows

    def rows(
        self, grams: UInt32[np.ndarray, "order G"], table_rows: int
    ) -> UInt32[np.ndarray, " G"]:
        """The Numba twin of ``row_exact``."""
        from ngscale.kernels.mixing import ideal_rows

        out = np.empty(grams.shape[1], dtype=np.uint32)
        ideal_rows(grams, np.uint64(self._key), np.uint64(table_rows), out)
        return out

    @property
    def _key(self) -> int:
        """Mixed, since the oldest token is XORed into it: seeds 0 and 1 would swap even and odd."""
        return _mix64(self.seed)

    def check(self, *, vocab_size: int, table_rows: int, max_order: int) -> None:
        """Any ids below 2**32 and any order are exact; the seed has 64 bits."""
        check_row_count(table_rows)
        if not 0 <= self.seed < 2**64:
            raise SpecError(f"ideal: the seed has 64 bits, got {self.seed}")

    def describe(self) -> dict[str, Any]:
        """The scheme and its seed."""
        return {"name": self.name, "seed": self.seed}


def _mix64(state: int) -> int:
    """What splitmix64 makes of its state: one to one, 0 stays 0."""
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK64
    return state ^ state >> 31
