"""What is measured of one table once all n-grams of a corpus are in it."""

from dataclasses import dataclass

import numpy as np

from ngscale.hashing.longcat import gram_row_ids
from ngscale.ngrams import NgramTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Occupancy of one table; the same quantities are predicted in ``expected.py``."""

    occupied: int
    """Rows that hold at least one n-gram."""
    collisions: int
    """Distinct n-grams minus occupied rows: the paper's count (arXiv:2601.21204 Fig. 3b)."""
    colliding: int
    """Distinct n-grams that share their row with another one."""
    purity: float
    """``sum_g c_g**2 / (T * C_row(g))``: share of a token's row traffic that is its own n-gram's;
    1 is a private row."""

    @property
    def impurity(self) -> float:
        """1 - purity: what sharing costs."""
        return 1.0 - self.purity


def measure(table: NgramTable, *, hash_base: int, table_rows: int) -> Measured:
    """Hash every n-gram of ``table`` into ``table_rows`` rows and read off the sharing."""
    from ngscale.kernels.occupancy import fill_rows, read_rows

    row_ids = gram_row_ids(table.tokens, hash_base=hash_base, table_rows=table_rows)
    grams_in_row = np.empty(table_rows, dtype=np.uint32)
    traffic_of_row = np.empty(table_rows, dtype=np.int64)
    fill_rows(row_ids, table.counts, grams_in_row, traffic_of_row)
    colliding, own_traffic = read_rows(row_ids, table.counts, grams_in_row, traffic_of_row)
    occupied = int(np.count_nonzero(grams_in_row))
    return Measured(
        occupied=occupied,
        collisions=table.distinct - occupied,
        colliding=int(colliding),
        purity=float(own_traffic) / table.occurrences,
    )
