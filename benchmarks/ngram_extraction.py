"""N-gram extraction beside numpy.unique and polars group_by, in one run, medians of several rounds.

All start from the same uint32 tokens and end with distinct n-grams and counts. The peers pack each
n-gram into one integer (order 2 and 3 fit) and leave it packed, polars unsorted; ours unpacks,
sorts and minds document boundaries. Every measurement is a process of its own, so its peak
memory is its own; contenders alternate. The stream is synthetic: Zipf-distributed ids, each the
function of 0 to 3 tokens before it, so that about a fifth of the bigrams and three fifths of the
trigrams are new, as in text.

    python benchmarks/ngram_extraction.py --tokens 5e7 --rounds 5
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

VOCAB_SIZE = 131_072
WARM_UP_TOKENS = 200_000
CONTENDERS = {
    "ngscale 2": (2,),
    "numpy 2": (2,),
    "polars 2": (2,),
    "ngscale 3": (3,),
    "numpy 3": (3,),
    "polars 3": (3,),
    "ngscale 2-3": (2, 3),
    "ngscale 2-4": (2, 3, 4),
    "ngscale 2-5": (2, 3, 4, 5),
}


@njit(cache=True)
def mix(x):
    """The finaliser of splitmix64. x: uint64."""
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def fill(tokens, ids, choices, shares, state):
    """Draw tokens one after the other.

    tokens: uint32 [T]; ids: uint32 [2**22], by quantile; choices: uint64 [2**16], by quantile;
    shares: uint64 [4], of 256, up to each length of context; state: uint64.
    """
    step = np.uint64(0x9E3779B97F4A7C15)
    for i in range(len(tokens)):
        state += step
        draw = mix(state)
        length = 0
        while draw & np.uint64(255) >= shares[length]:
            length += 1
        seen = draw
        if length > 0:
            seen = choices[(draw >> np.uint64(8)) & np.uint64(0xFFFF)] + step * np.uint64(length)
        for back in range(1, min(length, i) + 1):
            seen = mix(seen + step * np.uint64(tokens[i - back] + np.uint32(1)))
        tokens[i] = ids[mix(seen) >> np.uint64(42)]


def zipf_quantiles(size: int, num: int, exponent: float) -> Any:
    """Rank at each of ``num`` equidistant quantiles of a Zipf law."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return np.searchsorted(np.cumsum(weights) / weights.sum(), (np.arange(num) + 0.5) / num)


def synthetic(num_tokens: int) -> Any:
    """The stream, in memory."""
    tokens = np.empty(num_tokens, np.uint32)
    draw(tokens)
    return tokens


def draw(tokens: Any) -> None:
    """Fill ``tokens``; ids follow log-frequency with some noise, as those of a BPE do."""
    noise = np.random.default_rng(1).normal(0, 0.5, VOCAB_SIZE)
    order = np.argsort(np.argsort(np.log(np.arange(1, VOCAB_SIZE + 1)) + noise))
    ids = order[zipf_quantiles(VOCAB_SIZE, 2**22, 1.05)].astype(np.uint32)
    choices = zipf_quantiles(512, 2**16, 1.1).astype(np.uint64)
    fill(tokens, ids, choices, np.array([20, 120, 190, 256], np.uint64), np.uint64(1))


def packed(tokens: Any, order: int) -> Any:
    """Every n-gram as one integer, for the peers."""
    num = len(tokens) - order + 1
    keys = tokens[:num].astype(np.uint64)
    for ahead in range(1, order):
        keys *= np.uint64(VOCAB_SIZE)
        keys += tokens[ahead : ahead + num]
    return keys


def contender(name: str, threads: int) -> Callable[[Any], Mapping[int, int]]:
    """The function that counts n-grams and returns how many are distinct, by order."""
    orders = CONTENDERS[name]
    match name.split()[0]:
        case "ngscale":
            from ngscale.ngrams import count_ngrams
            from ngscale.tokens import TokenStream

            def ours(tokens: Any) -> Mapping[int, int]:
                stream = TokenStream(
                    tokens=tokens,
                    doc_starts=np.array([0, len(tokens)], dtype=np.int64),
                    vocab_size=VOCAB_SIZE,
                    num_bytes=0,
                )
                tables = count_ngrams(stream, orders=orders, threads=threads)
                return {order: table.distinct for order, table in tables.items()}

            return ours
        case "numpy":
            return lambda tokens: {
                order: len(np.unique(packed(tokens, order), return_counts=True)[0])
                for order in orders
            }
    import polars

    def theirs(tokens: Any) -> Mapping[int, int]:
        order = orders[0]
        frame = polars.DataFrame({"gram": packed(tokens, order)})
        return {order: len(frame.group_by("gram").len())}

    return theirs


def measure(name: str, path: Path, threads: int) -> dict[str, Any]:
    """One run in this process, after a warm-up on a few tokens."""
    tokens = np.load(path)
    run = contender(name, threads)
    run(tokens[:WARM_UP_TOKENS])
    wall, before = time.perf_counter(), os.times()
    distinct = run(tokens)
    wall, after = time.perf_counter() - wall, os.times()
    return {
        "wall": wall,
        "user": after.user - before.user,
        "system": after.system - before.system,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "distinct": distinct,
    }


def in_a_process(name: str, path: Path, threads: int) -> dict[str, Any]:
    """``measure`` in a fresh interpreter."""
    command = [sys.executable, __file__, "--child", name, str(path), "--threads", str(threads)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(result.stdout))


def main() -> None:
    """Measure, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=5e7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, path = options.child
        print(json.dumps(measure(name, Path(path), options.threads)))
        return
    num_tokens = int(options.tokens)
    names = [name for name in CONTENDERS if not name.startswith("polars") or has_polars()]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "tokens.npy"
        np.save(path, synthetic(num_tokens))
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                runs[name].append(in_a_process(name, path, options.threads))
    report(runs, num_tokens, options.threads)


def has_polars() -> bool:
    """Whether the peer is installed; it is no dependency."""
    try:
        import polars  # noqa: F401
    except ImportError:
        print("polars is not installed; pip install polars to time it too")
        return False
    return True


def report(runs: Mapping[str, list[dict[str, Any]]], num_tokens: int, threads: int) -> None:
    """Print medians per token, then ratios of medians."""
    medians = {
        name: {
            key: statistics.median(run[key] for run in found)
            for key in ("wall", "user", "system", "peak")
        }
        for name, found in runs.items()
    }
    rounds = len(next(iter(runs.values())))
    print(f"{num_tokens:,} tokens of {VOCAB_SIZE:,} ids, {threads} threads, {rounds} rounds")
    print(f"{'ns/token':14}{'wall':>8}{'user':>8}{'system':>8}{'B/token at peak':>18}  distinct")
    distinct: dict[str, int] = {}
    for name, median in medians.items():
        per_token = [f"{median[key] / num_tokens * 1e9:8.1f}" for key in ("wall", "user", "system")]
        found = runs[name][0]["distinct"]
        print(f"{name:14}{''.join(per_token)}{median['peak'] / num_tokens:18.1f}  {found}")
        for order, num in found.items():
            assert distinct.setdefault(order, num) == num, (name, order)
    for order in (2, 3):
        for peer in ("numpy", "polars"):
            if f"{peer} {order}" in medians:
                ours, theirs = medians[f"ngscale {order}"], medians[f"{peer} {order}"]
                cpu = (theirs["user"] + theirs["system"]) / (ours["user"] + ours["system"])
                print(
                    f"n = {order}: {theirs['wall'] / ours['wall']:.1f}x {peer} by wall, "
                    f"{cpu:.1f}x by processor time, {theirs['user'] / ours['user']:.1f}x of it user"
                )
    cpu_s = {name: median["user"] + median["system"] for name, median in medians.items()}
    for low, high in (("2-3", "2-4"), ("2-4", "2-5")):
        added = cpu_s[f"ngscale {high}"] - cpu_s[f"ngscale {low}"]
        print(
            f"{low} -> {high}: {added / cpu_s['ngscale 3']:.2f}x the processor time of n = 3 alone"
        )


if __name__ == "__main__":
    main()
