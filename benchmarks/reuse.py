"""Accesses a second of exact LRU curves of every size, beside an ordered dict at one size.

Half of the accesses are skewed (Zipf, 1.1), half uniform over a twentieth as many rows as there are
accesses: a seeded trace with no more locality than text has. Processor time, medians over runs. The
peer is timed on the first accesses alone, at a hundredth of the rows, and must count the misses of
the curve there.

    python benchmarks/reuse.py
    python benchmarks/reuse.py --accesses 100000000 --runs 1
"""

import argparse
import json
import resource
import statistics
import time
from collections import OrderedDict
from typing import Any

import numpy as np

from ngscale.cache.reuse import StackDistances, curve_of
from ngscale.numbering import Numbering

_CHUNK = 2**18
_PEER_ACCESSES = 2**19


def ordered_dict_misses(trace: list[int], size: int) -> int:
    """Misses of an LRU cache of one size."""
    held: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for row in trace:
        if row in held:
            held.move_to_end(row)
            continue
        misses += 1
        held[row] = None
        if len(held) > size:
            held.popitem(last=False)
    return misses


def chunk(generator: np.random.Generator, rows: int) -> np.ndarray:
    """A part of the trace."""
    skewed = generator.zipf(1.1, _CHUNK) % (20 * rows)
    even = generator.integers(0, rows, _CHUNK)
    return np.where(generator.random(_CHUNK) < 0.5, skewed, even).astype(np.int64)


def compare(accesses: int) -> dict[str, Any]:
    """Both speeds, and what the curve took of memory."""
    rows = max(1, accesses // 20)
    Numbering().number(np.arange(3))
    StackDistances().add(np.arange(3))  # compiles
    generator = np.random.default_rng(0)
    numbering, stack = Numbering(), StackDistances()
    first: list[int] = []
    misses, size = None, max(1, rows // 100)
    numbering_s = distances_s = 0.0
    for _ in range(-(-accesses // _CHUNK)):
        keys = chunk(generator, rows)
        started = time.process_time()
        numbers = numbering.number(keys)
        numbered = time.process_time()
        stack.add(numbers)
        numbering_s += numbered - started
        distances_s += time.process_time() - numbered
        if misses is None:
            first += keys.tolist()
            if len(first) >= min(_PEER_ACCESSES, accesses):
                misses = curve_of(stack.histogram(), distinct=stack.live).misses_at(size)
    started = time.process_time()
    assert ordered_dict_misses(first, size) == misses, "the curve and the peer disagree"
    peer_s = time.process_time() - started
    return {
        "accesses": stack.num_accesses,
        "distinct": stack.live,
        "accesses_per_s": stack.num_accesses / (numbering_s + distances_s),
        "numbering_ns": 1e9 * numbering_s / stack.num_accesses,
        "distances_ns": 1e9 * distances_s / stack.num_accesses,
        "peer_accesses_per_s_at_one_size": len(first) / peer_s,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accesses", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    wanted = parser.parse_args()
    runs = [compare(wanted.accesses) for _ in range(wanted.runs)]
    medians = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    ratio = medians["accesses_per_s"] / medians["peer_accesses_per_s_at_one_size"]
    print(json.dumps({**medians, "over_peer": ratio, "runs": wanted.runs}, indent=2))
