"""Adaptive against exhaustive sweeps of bigrams: recall and processor time, in one run.

The exhaustive sweep's time is extrapolated from 24 runs of 128 neighbouring sizes spread evenly
over the range, half of them timed before the adaptive sweep and half after. Without --tokens a
seeded stream of independent, skewed ids stands in for text. Recall is against all sizes.

    python benchmarks/adaptive.py
    python benchmarks/adaptive.py --tokens ids.u32 --vocab-size 131072
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ngscale.collisions.adaptive import THRESHOLD, sweep_adaptively
from ngscale.collisions.expected import expected_occupied
from ngscale.collisions.occupancy import occupied_rows
from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.tokens import TokenStream

_TIMED_RUNS = 24
_RUN = 128
BOUNDS = (1.05, 1.1, 1.2)


@contextmanager
def quiet(title: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress display that shows nothing."""
    yield lambda steps: None


def compare(
    table: NgramTable, base: int, sizes: Sequence[int], truth: np.ndarray
) -> dict[str, Any]:
    """Recall over the first sizes, whose occupied rows are ``truth``, and both costs in seconds."""
    sweep_adaptively(table, base, sizes[:4200], [], quiet)  # compiles
    starts = range(0, len(sizes) - _RUN, (len(sizes) - _RUN) // (_TIMED_RUNS - 1))
    parts = [sizes[start : start + _RUN] for start in starts]
    before = _processor_s(lambda: [occupied_rows(table, base, part) for part in parts[::2]])
    clock = time.process_time()
    found = sweep_adaptively(table, base, sizes, [], quiet)
    adaptive_s = time.process_time() - clock
    after = _processor_s(lambda: [occupied_rows(table, base, part) for part in parts[1::2]])
    exact = found.swept.exact
    assert exact is not None
    known = exact[: len(truth)]
    assert (found.swept.measured.occupied[: len(truth)] == truth)[known].all()
    ideal = table.distinct - expected_occupied(table.distinct, np.array(sizes[: len(truth)]))
    excess = (table.distinct - truth) / ideal
    predicted = found.swept.excess()[: len(truth)]
    errors = np.log(excess / predicted)[~known]
    missed = np.flatnonzero((excess > THRESHOLD) & ~known)
    exhaustive_s = (before + after) / sum(map(len, parts)) * len(sizes)
    return {
        "distinct": table.distinct,
        "num_sizes": len(sizes),
        "num_truth": len(truth),
        "above": {str(bound): int((excess > bound).sum()) for bound in BOUNDS},
        "found": {str(bound): int(((excess > bound) & known).sum()) for bound in BOUNDS},
        "worst_missed": float(excess[missed].max()) if len(missed) else None,
        "adaptive_s": adaptive_s,
        "exhaustive_s": exhaustive_s,
        "cost": adaptive_s / exhaustive_s,
        "predicted_rms": float(np.sqrt((errors**2).mean())),
        "predicted_max": float(np.abs(errors).max()),
        **found.told,
    }


def _processor_s(work: Callable[[], object]) -> float:
    clock = time.process_time()
    work()
    return time.process_time() - clock


def main() -> None:
    """Print recall and cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    given = parser.parse_args()
    base = given.vocab_size
    if given.tokens is None:
        drawn = np.random.default_rng(0).random(1_000_000) ** 3 * base
        ids = drawn.astype(np.uint32)
    else:
        ids = np.fromfile(given.tokens, dtype=np.uint32)
    ends = np.array([0, len(ids)])
    stream = TokenStream(tokens=ids, doc_starts=ends, vocab_size=base, num_bytes=0)
    table = count_ngrams(stream, orders=[2])[2]
    sizes = list(range(30 * base, 31 * base + 1))
    told = compare(table, base, sizes, occupied_rows(table, base, sizes))
    print(f"{table.distinct:,} bigrams, {len(sizes):,} sizes, {told['num_exact']:,} counted")
    print(f"above {THRESHOLD}: {told['above']['1.05']:,}, found {told['found']['1.05']:,}")
    print(
        f"processor seconds: {told['adaptive_s']:.1f} adaptive, {told['exhaustive_s']:.1f} "
        f"exhaustive (extrapolated), {told['cost']:.1%}"
    )


if __name__ == "__main__":
    main()
