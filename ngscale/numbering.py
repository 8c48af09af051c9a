"""Sparse row ids -> 0, 1, 2, ... in order of first sight: memory for the rows seen alone."""

import numpy as np
from jaxtyping import Int64

_FIRST_CAPACITY = 1024


class Numbering:
    """Dense numbers of sparse keys, the same ones in every later call."""

    def __init__(self) -> None:
        self.used = 0
        """Distinct keys so far."""
        self._seen = np.empty(_FIRST_CAPACITY, np.int64)
        self._index = np.full(2 * _FIRST_CAPACITY, -1, np.int32)

    def number(self, keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """A number for each key, distinct or not."""
        from ngscale.kernels.row_slots import find_or_add

        self._make_room(self.used + len(keys))
        numbers = np.empty(len(keys), np.int64)
        self.used = int(find_or_add(self._index, self._seen, self.used, keys, numbers))
        return numbers

    def keys(self) -> Int64[np.ndarray, " used"]:
        """The key of every number."""
        return self._seen[: self.used].copy()

    @property
    def capacity(self) -> int:
        """Numbers there is room for."""
        return len(self._seen)

    @property
    def num_bytes(self) -> int:
        """Of the map itself."""
        return self._seen.nbytes + self._index.nbytes

    def _make_room(self, needed: int) -> None:
        from ngscale.kernels.row_slots import rebuild

        if needed > len(self._seen):
            seen = np.empty(max(needed, len(self._seen) * 3 // 2), np.int64)
            seen[: self.used] = self._seen[: self.used]
            self._seen = seen
        if 3 * needed > 2 * len(self._index):  # at most two thirds full
            size = len(self._index)
            while 3 * needed > 2 * size:
                size *= 2
            self._index = np.full(size, -1, np.int32)
            rebuild(self._index, self._seen, self.used)
