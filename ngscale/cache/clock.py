"""CLOCK by simulation, at given sizes: it is no stack algorithm, so each size is a run."""

import numpy as np
from jaxtyping import Int64

from ngscale.cache.reuse import grown


class Clock:
    """A CLOCK cache of some rows over a trace that comes in chunks of row numbers."""

    def __init__(self, frames: int) -> None:
        self.misses = 0
        self._frame_of = np.full(1024, -1, np.int32)
        self._slot_of = np.empty(frames, np.int32)
        self._referenced = np.zeros(frames, np.uint8)
        self._hand = self._used = 0

    def add(self, numbers: Int64[np.ndarray, " n"]) -> None:
        """Simulate more accesses; numbers are dense: ``Numbering``'s."""
        from ngscale.kernels.reuse import clock_misses

        if len(numbers) == 0:
            return
        self._frame_of = grown(self._frame_of, int(numbers.max()) + 1, -1)
        misses, hand, used = clock_misses(
            numbers, self._frame_of, self._slot_of, self._referenced, self._hand, self._used
        )
        self.misses += int(misses)
        self._hand, self._used = int(hand), int(used)
