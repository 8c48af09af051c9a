"""Which rows of a table an optimiser holds state for, and in which place: rows -> slots.

A slot is given at first sight, so that the state of a table grows with the rows that were looked
up, whatever it owns. On a CPU the map is a hash table (24 bytes a row seen at most, beside the
row's own number); on a device it is an array over the rows owned (4 bytes each, beside 4 * d of the
row itself), because a hash table there would have to wait for the host.
"""

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from ngscale.numbering import Numbering

_FIRST_CAPACITY = 1024
_GROWTH = 1.5


class Slots(Protocol):
    """Rows -> slots."""

    @property
    def capacity(self) -> int:
        """Slots there is room for; state arrays are as long."""

    def find_or_add(self, rows: Int64[Tensor, " n"], count: Tensor | None) -> Int64[Tensor, " n"]:
        """A slot for each of ``rows``, distinct as far as ``count`` says (all, where None)."""

    def rows(self) -> Int64[Tensor, " used"]:
        """The row of every slot in use."""

    def refresh(self) -> None:
        """Read from the device how many are in use; only called where it is waited for anyway."""


class HostSlots:
    """A hash table in the memory of the host."""

    def __init__(self) -> None:
        self._numbering = Numbering()

    @property
    def capacity(self) -> int:
        """As ``Slots``."""
        return self._numbering.capacity

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._numbering.used

    def find_or_add(self, rows: Int64[Tensor, " n"], count: Tensor | None) -> Int64[Tensor, " n"]:
        """As ``Slots``; ``count`` is None here."""
        assert count is None
        return torch.from_numpy(self._numbering.number(np.ascontiguousarray(rows.numpy())))

    def rows(self) -> Int64[Tensor, " used"]:
        """As ``Slots``."""
        return torch.from_numpy(self._numbering.keys())

    def refresh(self) -> None:
        """Nothing to do."""

    @property
    def num_bytes(self) -> int:
        """Of the map itself."""
        return self._numbering.num_bytes


class DeviceSlots:
    """An array over all rows, on their device; the host knows only a bound of what is in use."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.num_rows = num_rows
        self.capacity = _FIRST_CAPACITY
        self.bound = 0
        self.used = torch.zeros((), dtype=torch.int64, device=device)
        self._slot_of_row = torch.full((num_rows,), -1, dtype=torch.int32, device=device)
        self._seen = torch.zeros(self.capacity, dtype=torch.int64, device=device)

    def find_or_add(self, rows: Int64[Tensor, " n"], count: Tensor | None) -> Int64[Tensor, " n"]:
        """As ``Slots``; the rows from ``count`` on repeat the first and change nothing."""
        self._make_room(len(rows))
        places = torch.arange(len(rows), device=rows.device)
        counted = places < (len(rows) if count is None else count)
        slots = self._slot_of_row[rows].long()
        new = (slots < 0) & counted
        slots = torch.where(new, self.used + new.cumsum(0) - 1, slots)
        slots = torch.where(counted, slots, slots[0])
        self.used += new.sum()
        # Where nothing is counted the first row may have no slot: then nothing is entered.
        entered = torch.where(counted[0], slots, self._slot_of_row[rows].long())
        self._slot_of_row.index_copy_(0, rows, entered.int())
        slots = slots.clamp(min=0)
        self._seen.index_copy_(0, slots, torch.where(counted[0], rows, self._seen[slots]))
        return slots

    def rows(self) -> Int64[Tensor, " used"]:
        """As ``Slots``; waits for the device."""
        return self._seen[: int(self.used)].clone()

    def refresh(self) -> None:
        """As ``Slots``."""
        self.bound = int(self.used)

    def _make_room(self, num_wanted: int) -> None:
        self.bound = min(self.bound + num_wanted, self.num_rows)
        if self.bound > self.capacity:
            self.capacity = max(self.bound, int(_GROWTH * self.capacity))
            seen = self._seen.new_zeros(self.capacity)
            seen[: len(self._seen)] = self._seen
            self._seen = seen


def distinct_rows(
    ids: Int64[Tensor, " n"], values: Tensor, num_rows: int
) -> tuple[Int64[Tensor, " u"], Tensor]:
    """Distinct ids and the sum of each one's ``values`` [n, d], but ``num_rows``; on a CPU."""
    rows, place = torch.unique(ids, return_inverse=True)
    sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, place, values)
    foreign = bool(len(rows)) and int(rows[-1]) >= num_rows
    return (rows[:-1], sums[:-1]) if foreign else (rows, sums)


def distinct_rows_fixed(
    ids: Int64[Tensor, " n"], values: Tensor, num_rows: int
) -> tuple[Int64[Tensor, " n"], Tensor, Int64[Tensor, ""]]:
    """The same in arrays of n, with the number of distinct rows: nothing waits for the host.

    What lies behind that number repeats the first row and its sum. The sums do not depend on the
    order in which a device adds: equal ids are sorted together first.
    """
    ordered, order = ids.sort(stable=True)
    first: Bool[Tensor, " n"] = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    place = first.cumsum(0) - 1
    rows = torch.full_like(ordered, num_rows).scatter_(0, place, ordered)
    sums = torch.zeros_like(values).index_put_((place,), values[order], accumulate=True)
    own = rows < num_rows  # a prefix
    places = torch.where(own, torch.arange(len(rows), device=rows.device), 0)
    return rows[places].clamp(max=num_rows - 1), sums[places], own.sum()
