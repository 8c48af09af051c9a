"""What is measured of one table once all n-grams of a corpus are in it."""

from dataclasses import dataclass

import numpy as np

from ngscale.collisions.threads import Scratch
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Occupancy of one table, in rows and n-grams, shares in 0..1; predicted in ``expected.py``.

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


def measure(
    table: NgramTable, scheme: Scheme, table_rows: int, scratch: Scratch | None = None
) -> Measured:
    """Hash every n-gram of ``table`` into ``table_rows`` rows and read off the sharing.

    ``scratch`` lets one thread's calls share an array. Whether the scheme is exact at that size is
    ``scheme.check``'s to say, which raises SpecError; it is not asked here.
    """
    from ngscale.kernels.occupancy import fill_rows, read_ngrams, read_rows

    row_ids = scheme.rows(table.tokens, table_rows)
    total = table.occurrences
    # Half the memory, so twice the part of the table that is in cache, for all but huge corpora.
    narrow = np.uint32 if total < 2**32 else np.int64
    traffic = (Scratch() if scratch is None else scratch).zeros("traffic", table_rows, narrow)
    fill_rows(row_ids, table.counts, traffic)
    colliding, colliding_traffic, own_traffic = read_ngrams(row_ids, table.counts, traffic)
    occupied, largest, weighted_log = read_rows(traffic)
    return Measured(
        occupied=int(occupied),
        collisions=table.distinct - int(occupied),
        colliding=int(colliding),
        token_weighted=int(colliding_traffic) / total,
        purity=float(own_traffic) / total,
        effective_rows=float(total * np.exp(-weighted_log / total)),
        max_row_share=int(largest) / total,
    )
