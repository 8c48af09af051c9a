"""A fixed set of hot rows: the most frequent of some text, for every size at once.

Ranked by the very text it is measured on, it is the best fixed set in hindsight; ranked by other
text, what one can have.
"""

import numpy as np
from jaxtyping import Int64

from ngscale.cache.reuse import Curve


def curve(ranking: Int64[np.ndarray, " rows"], measured: Int64[np.ndarray, " rows"]) -> Curve:
    """Hits of the rows with the highest counts in ``ranking``, lower numbers first.

    Both are counts by row number; a row that ``ranking`` has none of is in no set.
    """
    hot = np.argsort(-ranking, kind="stable")[: int(np.count_nonzero(ranking))]
    hits = np.concatenate([np.zeros(1, np.int64), np.cumsum(measured[hot])])
    return Curve(
        hits=hits, num_accesses=int(measured.sum()), distinct=int(np.count_nonzero(measured))
    )
