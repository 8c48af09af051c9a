"""Occupied and shared rows at many table sizes: ngscale beside the obvious ways, in one run.

Every contestant counts the same n-grams, is asserted equal, and runs once per round, so that a
busy machine slows all alike. Printed: median processor nanoseconds per (n-gram x size) over the
rounds, and the ratio to ours. Without --tokens a seeded Zipf-Markov stream stands in for text.

    python benchmarks/sweep.py
    python benchmarks/sweep.py --tokens ids.u32 --vocab-size 131072 --limit 23000000
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from ngscale.collisions.joint import joint_sharing
from ngscale.collisions.occupancy import occupied_rows, sharing
from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.tokens import TokenStream

VOCAB_SIZE = 131_072
RATIO, OFFSET = 31, 12_345


@njit(nogil=True)
def _mix(x):
    """SplitMix64 (Steele et al. 2014)."""
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True)
def _zipf(bits, number, exponent, shift):
    """A rank below ``number`` with probability about (rank + shift)**-exponent."""
    u = np.float64(bits >> np.uint64(11)) / 9007199254740992.0
    low, high = shift ** (1.0 - exponent), (number + shift) ** (1.0 - exponent)
    rank = int((low + u * (high - low)) ** (1.0 / (1.0 - exponent)) - shift)
    return min(max(rank, 0), number - 1)


@njit(nogil=True)
def _markov(out, id_of_rank, seed):
    """Each token continues the last 0 to 3 tokens by one of their Zipf-distributed successors."""
    state = np.uint64(seed)
    for t in range(len(out)):
        state = _mix(state)
        draw = state & np.uint64(1023)
        context = 3 if draw < 250 else 2 if draw < 550 else 1 if draw < 940 else 0
        context = min(context, t)
        state = _mix(state)
        bits = np.uint64(context)
        for back in range(1, context + 1):
            bits = _mix(bits ^ np.uint64(out[t - back]) * np.uint64(0xD6E8FEB86659FD93))
        if context:
            bits = _mix(bits ^ np.uint64(_zipf(state, 2000, 1.4, 1.0)))
        out[t] = id_of_rank[_zipf(bits if context else state, len(id_of_rank), 1.05, 2.7)]


def synthetic_stream(num_tokens: int) -> np.ndarray:
    """Ids about in order of frequency, as a BPE tokenizer's are."""
    rng = np.random.default_rng(0)
    noisy = np.log(np.arange(VOCAB_SIZE) + 10.0) + rng.normal(0, 0.6, VOCAB_SIZE)
    id_of_rank = np.argsort(np.argsort(noisy)).astype(np.uint32)
    out = np.empty(num_tokens, dtype=np.uint32)
    _markov(out, id_of_rank, 1)
    return out


@njit(nogil=True)
def _plain_loop(codes, modulus, bitmap):
    bitmap[:] = 0
    for code in codes:
        row = code % modulus
        bitmap[row >> np.uint64(6)] |= np.uint64(1) << (row & np.uint64(63))


@njit(nogil=True)
def _horner_loop(grams, base, modulus, bitmap):
    bitmap[:] = 0
    for g in range(grams.shape[1]):
        row = np.uint64(0)
        for s in range(grams.shape[0] - 1, -1, -1):
            row = (row * base + np.uint64(grams[s, g])) % modulus
        bitmap[row >> np.uint64(6)] |= np.uint64(1) << (row & np.uint64(63))


def plain_loop(codes: np.ndarray, rows: int) -> int:
    """A careful Numba loop: uint64 remainder, bitmap."""
    bitmap = np.zeros(rows // 64 + 1, dtype=np.uint64)
    _plain_loop(codes, np.uint64(rows), bitmap)
    return int(np.bitwise_count(bitmap).sum())


def horner_loop(table: NgramTable, rows: int) -> int:
    """The same for any order: the polynomial with a remainder at every place."""
    bitmap = np.zeros(rows // 64 + 1, dtype=np.uint64)
    _horner_loop(table.tokens, np.uint64(VOCAB_SIZE), np.uint64(rows), bitmap)
    return int(np.bitwise_count(bitmap).sum())


def numpy_flags(codes: np.ndarray, rows: int) -> int:
    """A flag per row."""
    flags = np.zeros(rows, dtype=np.bool_)
    flags[codes % np.uint64(rows)] = True
    return int(np.count_nonzero(flags))


def torch_unique(codes: np.ndarray, rows: int) -> int:
    """One thread, on the CPU."""
    import torch

    torch.set_num_threads(1)
    return int(torch.unique(torch.from_numpy(codes.view(np.int64)) % rows).numel())


def polars_unique() -> Callable[[np.ndarray, int], int] | None:
    """None where polars is not installed."""
    try:
        import polars
    except ImportError:
        return None
    return lambda codes, rows: int((polars.Series(codes) % rows).n_unique())


@dataclass
class Contest:
    """Contestants over the same n-grams; each returns its counts at its sizes."""

    num_grams: int
    calls: dict[str, tuple[Callable[[], Sequence[int]], int]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, num_sizes: int, call: Callable[[], Sequence[int]]) -> None:
        """A contestant that counts ``num_sizes`` sizes (or tables) a call."""
        self.calls[name] = (call, num_sizes)

    def run(self, rounds: int, truth: Sequence[int]) -> None:
        """All in turn, after one round to compile; every count must be that of ``truth``."""
        for turn in range(rounds + 1):
            for name, (call, num_sizes) in self.calls.items():
                cpu, wall = time.process_time(), time.perf_counter()
                found = call()
                each = 1e9 / (num_sizes * self.num_grams)
                seconds = time.process_time() - cpu, time.perf_counter() - wall
                assert list(found) == list(truth[: len(found)]), name
                if turn:
                    self.cpu.setdefault(name, []).append(seconds[0] * each)
                    self.wall.setdefault(name, []).append(seconds[1] * each)

    def show(self, ours: str) -> None:
        """Medians of processor time, and the ratio to ours."""
        best = statistics.median(self.cpu[ours])
        for name, times in self.cpu.items():
            median = statistics.median(times)
            low, high = min(times), max(times)
            spread = f"({low:.3f}..{high:.3f})"
            print(f"  {name:30s} {median:8.3f} ns {spread:18s} {median / best:7.2f} x ours")

    def show_ours(self) -> None:
        """What two threads gain and sharing costs, against occupancy in one."""
        threads = self.ratio("ngscale", "ngscale, 2 threads", "wall")
        shared = self.ratio("ngscale, sharing + tokens", "ngscale")
        print(
            f"  2 threads: {threads:.2f} x one (wall); sharing + tokens: {shared:.2f} x occupancy"
        )

    def ratio(self, first: str, second: str, clock: str = "cpu") -> float:
        """Median of the ratios within a round."""
        times: dict[str, list[float]] = getattr(self, clock)
        return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))


def bigrams(table: NgramTable, num_sizes: int, rounds: int) -> None:
    """Neighbouring sizes, one size, and all that is read off beside occupancy."""
    sizes = [RATIO * VOCAB_SIZE + OFFSET + step for step in range(num_sizes)]
    codes = table.tokens[1].astype(np.uint64) * np.uint64(VOCAB_SIZE) + table.tokens[0]
    truth = [plain_loop(codes, rows) for rows in sizes]

    def at(peer: Callable[[np.ndarray, int], int]) -> Callable[[], list[int]]:
        return lambda: [peer(codes, sizes[0])]

    def shared(intrinsic: bool) -> Callable[[], list[int]]:
        return lambda: sharing(
            table, VOCAB_SIZE, sizes, threads=1, intrinsic=intrinsic
        ).occupied.tolist()

    def occupied(threads: int, intrinsic: bool = True) -> Callable[[], list[int]]:
        return lambda: occupied_rows(
            table, VOCAB_SIZE, sizes, threads=threads, intrinsic=intrinsic
        ).tolist()

    contest = Contest(table.distinct)
    contest.add("ngscale", num_sizes, occupied(1))
    contest.add("ngscale, no intrinsic", num_sizes, occupied(1, intrinsic=False))
    contest.add("ngscale, 2 threads", num_sizes, occupied(2))
    contest.add(
        "ngscale, one size",
        1,
        lambda: occupied_rows(table, VOCAB_SIZE, sizes[:1], threads=1).tolist(),
    )
    contest.add("ngscale, sharing + tokens", num_sizes, shared(True))
    contest.add("same, no intrinsic", num_sizes, shared(False))
    contest.add("Numba loop, uint64 %, bitmap", 1, at(plain_loop))
    contest.add("numpy flags", 1, at(numpy_flags))
    contest.add("torch.unique", 1, at(torch_unique))
    if (polars := polars_unique()) is not None:
        contest.add("polars n_unique", 1, at(polars))
    contest.run(rounds, truth)
    print(f"2-grams, M = {table.distinct:,}, {num_sizes} neighbouring sizes from {sizes[0]:,}")
    contest.show("ngscale")
    if polars is None:
        print("  polars n_unique: not installed, skipped")
    contest.show_ours()
    joint(table, rounds)


def _occupied(table: NgramTable, sizes: Sequence[int], threads: int) -> list[int]:
    counted: list[int] = occupied_rows(table, VOCAB_SIZE, sizes, threads=threads).tolist()
    return counted


def _joint(table: NgramTable, sizes: Sequence[int]) -> list[int]:
    return list(joint_sharing(table, VOCAB_SIZE, sizes, threads=1))


def longer(table: NgramTable, num_sizes: int, rounds: int) -> None:
    """Orders 3 and up."""
    sizes = [RATIO * VOCAB_SIZE + OFFSET + 1_000 * step for step in range(num_sizes)]
    truth = [horner_loop(table, rows) for rows in sizes]
    contest = Contest(table.distinct)
    for name, threads in (("ngscale", 1), ("ngscale, 2 threads", 2)):
        contest.add(
            name,
            num_sizes,
            partial(_occupied, table, sizes, threads),
        )
    contest.add(
        "ngscale, sharing + tokens",
        num_sizes,
        lambda: sharing(table, VOCAB_SIZE, sizes, threads=1).occupied.tolist(),
    )
    contest.add("Numba loop, Horner, uint64 %", 1, lambda: [horner_loop(table, sizes[0])])
    contest.run(rounds, truth)
    print(f"{table.order}-grams, M = {table.distinct:,}, {num_sizes} sizes from {sizes[0]:,}")
    contest.show("ngscale")
    contest.show_ours()
    joint(table, rounds)


def joint(table: NgramTable, rounds: int) -> None:
    """Four tables at once, at two ratios."""
    for ratio in (RATIO, 78):
        sizes = [ratio * VOCAB_SIZE + odd for odd in (1, 3, 5, 7)]
        found: Any = joint_sharing(table, VOCAB_SIZE, sizes)
        contest = Contest(table.distinct)
        contest.add(
            "joint",
            4,
            partial(_joint, table, sizes),
        )
        contest.run(rounds, list(found))
        cpu = statistics.median(contest.cpu["joint"])
        print(f"  joint, 4 tables at {ratio} x V0: {cpu:.2f} ns a (key x table)")


def tables_of(tokens: np.ndarray, max_order: int) -> dict[int, NgramTable]:
    """Distinct n-grams of one long document."""
    ends = np.array([0, len(tokens)], dtype=np.int64)
    stream = TokenStream(tokens=tokens, doc_starts=ends, vocab_size=VOCAB_SIZE, num_bytes=0)
    return count_ngrams(stream, max_order)


def main() -> None:
    """Run the contests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tokens", type=Path, help="uint32 ids, one after another")
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    parser.add_argument("--limit", type=int, default=4_000_000, help="tokens read or made")
    parser.add_argument("--max-order", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=512, help="neighbouring sizes, 2-grams")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.vocab_size != VOCAB_SIZE:
        parser.error(f"--vocab-size: the sizes of this benchmark are for {VOCAB_SIZE} ids")
    if options.tokens is None:
        tokens = synthetic_stream(options.limit)
    else:
        mapped = np.memmap(options.tokens, dtype=np.uint32, mode="r")
        tokens = np.array(mapped[: options.limit])
    print(f"{len(tokens):,} tokens, {'synthetic' if options.tokens is None else 'text'}")
    tables = tables_of(tokens, options.max_order)
    for order, table in tables.items():
        if order == 2:
            bigrams(table, options.sizes, options.rounds)
        else:
            longer(table, 4, options.rounds)


if __name__ == "__main__":
    main()
