"""LRU curves of a sample of the rows, for traces too long for all of them.

SHARDS (Waldspurger et al., FAST 2015): keep the rows whose hash is below a threshold, with all
their accesses; a distance d among them stands for d / R. With R times the accesses of the whole
trace as the denominator (its SHARDS-adj), a hot row in or out of the sample does less harm. Several
hashes give independent samples, whose spread is the error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ngscale.cache.reuse import Curve, StackDistances, curve_of
from ngscale.numbering import Numbering


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledCurve:
    """As ``reuse.Curve``, estimated from several samples."""

    samples: tuple[Curve, ...]
    rate: float
    num_accesses: int
    """Of the whole trace."""

    @property
    def distinct(self) -> int:
        """Rows accessed, estimated."""
        return round(sum(s.distinct for s in self.samples) / (self.rate * len(self.samples)))

    def miss_ratio_at(self, rows: int) -> float:
        """The mean of the samples, at most 1."""
        misses = self._misses(rows)
        return min(1.0, sum(misses) / (self.rate * self.num_accesses * len(misses)))

    def misses_at(self, rows: int) -> int:
        """Misses of a cache of so many rows."""
        return round(self.miss_ratio_at(rows) * self.num_accesses)

    def half_width_at(self, rows: int) -> float:
        """Of the 95% interval of the mean, by Student's t over the samples."""
        from scipy.stats import t

        misses = self._misses(rows)
        spread = float(np.std(misses, ddof=1)) / (self.rate * self.num_accesses)
        return float(t.ppf(0.975, len(misses) - 1)) * spread / math.sqrt(len(misses))

    def rows_for(self, miss_ratio: float) -> int | None:
        """The fewest rows that miss at most this share; None where no size does."""
        low, high = 0, 2 * math.ceil(max(s.distinct for s in self.samples) / self.rate)
        if self.miss_ratio_at(high) > miss_ratio:
            return None
        while low < high:
            middle = (low + high) // 2
            if self.miss_ratio_at(middle) <= miss_ratio:
                high = middle
            else:
                low = middle + 1
        return low

    def _misses(self, rows: int) -> list[int]:
        """Of every sample, in a cache as much smaller as the sample is."""
        return [sample.misses_at(math.floor(rows * self.rate)) for sample in self.samples]


class Samples:
    """Stack distances of several samples of one trace."""

    def __init__(self, rate: float, seeds: Sequence[int]) -> None:
        self.rate = rate
        self.num_accesses = 0
        self._threshold = np.uint64(min(2**64 - 1, int(rate * 2**64)))
        self._seeds = [np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64) for seed in seeds]
        self._numberings = [Numbering() for _ in seeds]
        self._stacks = [StackDistances() for _ in seeds]
        self._before = [np.zeros(1, np.int64) for _ in seeds]

    def add(self, keys: Int64[np.ndarray, " n"]) -> None:
        """More accesses."""
        from ngscale.kernels.reuse import sampled

        self.num_accesses += len(keys)
        out = np.empty(len(keys), np.int64)
        for seed, numbering, stack in zip(self._seeds, self._numberings, self._stacks, strict=True):
            kept = sampled(keys, seed, self._threshold, out)
            stack.add(numbering.number(out[:kept]))

    @property
    def num_bytes(self) -> int:
        """Of all it holds."""
        pairs = zip(self._numberings, self._stacks, strict=True)
        return sum(numbering.num_bytes + stack.num_bytes for numbering, stack in pairs)

    def start(self) -> None:
        """Count from here on: what came before only warmed the cache."""
        self.num_accesses = 0
        self._before = [stack.histogram() for stack in self._stacks]

    def curve(self) -> SampledCurve:
        """The estimate."""
        found = []
        for stack, before in zip(self._stacks, self._before, strict=True):
            histogram = stack.histogram()
            histogram[: len(before)] -= before
            found.append(curve_of(histogram, distinct=stack.live))
        return SampledCurve(samples=tuple(found), rate=self.rate, num_accesses=self.num_accesses)
