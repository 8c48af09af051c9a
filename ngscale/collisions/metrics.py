"""What is measured of one table once all n-grams of a corpus are in it."""

from dataclasses import dataclass

import numpy as np

from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Occupancy of one table; the same quantities are predicted in ``expected.py``.

    What a counting rule does not define is None: the per-sequence rule counts rows only.
    """

    occupied: int
    """Rows that hold at least one n-gram."""
    collisions: int
    """Distinct n-grams minus occupied rows: the paper's count (arXiv:2601.21204 Fig. 3b)."""
    colliding: int | None = None
    """Distinct n-grams that share their row with another one."""
    token_weighted: float | None = None
    """Share of occurrences whose n-gram shares its row."""
    purity: float | None = None
    """``sum_g c_g**2 / (T * C_row(g))``: share of a token's row traffic that is its own n-gram's;
    1 is a private row."""
    effective_rows: float | None = None
    """exp of the entropy of the row traffic, ``exp(-sum_r C_r/T log(C_r/T))``."""
    max_row_share: float | None = None
    """Share of all traffic that goes to the busiest row."""

    @property
    def impurity(self) -> float | None:
        """1 - purity: what sharing costs."""
        return None if self.purity is None else 1.0 - self.purity


def measure(table: NgramTable, scheme: Scheme, table_rows: int) -> Measured:
    """Hash every n-gram of ``table`` into ``table_rows`` rows and read off the sharing."""
    from ngscale.kernels.occupancy import fill_rows, read_ngrams, read_rows

    row_ids = scheme.rows(table.tokens, table_rows)
    grams_in_row = np.empty(table_rows, dtype=np.uint32)
    traffic_of_row = np.empty(table_rows, dtype=np.int64)
    fill_rows(row_ids, table.counts, grams_in_row, traffic_of_row)
    colliding, colliding_traffic, own_traffic = read_ngrams(
        row_ids, table.counts, grams_in_row, traffic_of_row
    )
    occupied, largest, weighted_log = read_rows(traffic_of_row)
    total = table.occurrences
    return Measured(
        occupied=int(occupied),
        collisions=table.distinct - int(occupied),
        colliding=int(colliding),
        token_weighted=int(colliding_traffic) / total,
        purity=float(own_traffic) / total,
        effective_rows=float(total * np.exp(-weighted_log / total)),
        max_row_share=int(largest) / total,
    )
