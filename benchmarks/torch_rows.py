"""Row ids of LongCat-Flash-Lite's twelve tables: both twins beside the obvious ways, in one run.

Contestants see the same tokens, are asserted equal, and take turns, so that a busy machine slows
all alike; torch gets one thread. Printed: median processor milliseconds, and the median of the
ratios within a round.

    python benchmarks/torch_rows.py
    python benchmarks/torch_rows.py --rounds 200 --numba-tokens 0
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ngscale.hashing.stream import row_ids
from ngscale.hashing.torch_twin import NgramHash
from ngscale.policy import mode_policy
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, longcat_spec

VOCAB_SIZE, EOS = 131_072, 2
LITE = longcat_spec(
    vocab_size=VOCAB_SIZE,
    max_order=4,
    num_subtables=4,
    table_rows=longcat_rows(78, VOCAB_SIZE, 12),
    policy=mode_policy("hf", EOS),
)


def looped_shift(ids: torch.Tensor, steps: int) -> torch.Tensor:
    """``ids`` moved right within their segments, by a loop over sequences and over their EOS."""
    out = torch.zeros_like(ids)
    for b in range(ids.shape[0]):
        start = 0
        for eos in (ids[b] == EOS).nonzero(as_tuple=True)[0]:
            end = int(eos.item()) + 1
            if end - start > steps:
                out[b, start + steps : end] = ids[b, start : end - steps]
            start = end
        if ids.shape[1] - start > steps:
            out[b, start + steps :] = ids[b, start : ids.shape[1] - steps]
    return out


def masked_shifts(ids: torch.Tensor, max_order: int) -> list[torch.Tensor]:
    """The same for 1 .. N-1 steps, by a running maximum over the positions of EOS."""
    positions = torch.arange(ids.shape[1])
    after_eos = torch.where(ids == EOS, positions + 1, 0).cummax(dim=1).values
    start = torch.nn.functional.pad(after_eos, (1, 0))[:, :-1]
    return [
        torch.where(positions - s >= start, ids.roll(s, dims=1), 0) for s in range(1, max_order)
    ]


def table_by_table(ids: torch.Tensor, shifted: list[torch.Tensor], spec: NgramSpec) -> torch.Tensor:
    """A sum of products and a remainder for each table."""
    out = []
    for order, rows in zip(spec.table_orders, spec.table_rows, strict=True):
        total, weight = ids, 1
        for s in range(1, order):
            weight = weight * spec.vocab_size % rows
            total = total + shifted[s - 1] * weight
        out.append(total % rows)
    return torch.stack(out, dim=-1)


def as_released(ids: torch.Tensor) -> torch.Tensor:
    """As LongCat-Flash-Lite's modeling code: loops over tables, sequences and EOS positions."""
    shifted = [looped_shift(ids, s) for s in range(1, LITE.max_order)]
    return table_by_table(ids, shifted, LITE)


def shifted_once(ids: torch.Tensor) -> torch.Tensor:
    """The vectorised peer."""
    return table_by_table(ids, masked_shifts(ids, LITE.max_order), LITE)


def stream_of(shape: tuple[int, ...], every: int) -> np.ndarray:
    """Seeded ids, an EOS every so many tokens; none where ``every`` is 0."""
    tokens = np.random.default_rng(0).integers(EOS + 1, VOCAB_SIZE, size=shape)
    if every:
        tokens[..., every - 1 :: every] = EOS
    return tokens


def contest(
    calls: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1
) -> dict[str, list[float]]:
    """Processor milliseconds a call of every contestant, all in turn, each ``repeats`` times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            times[name].append(1000 * (time.process_time() - start) / repeats)
    return times


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def show(times: Mapping[str, list[float]], unit: str) -> None:
    """Medians, and how many times as long as each of ours the peers take."""
    ours = [name for name in times if name.startswith("ngscale")]
    for name, own in times.items():
        ratios = [f"{median_ratio(own, times[other]):7.2f}" for other in ours]
        spread = f"({min(own):.2f}..{max(own):.2f})"
        print(f"  {name:34s}{statistics.median(own):9.3f} {unit} {spread:20s}{''.join(ratios)}")
    print(f"  {'':34s}{'':34s}times {', '.join(ours)}")


def torch_rows(batch: int, length: int, every: int, rounds: int) -> None:
    """Eager and compiled against both peers, then against themselves at other numbers of EOS."""
    torch.set_num_threads(1)
    twin = NgramHash(LITE)
    ours: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"ngscale eager": twin}
    if shutil.which("g++") or shutil.which("clang++"):
        ours["ngscale compiled"] = torch.compile(twin, fullgraph=True)
    else:
        print("ngscale compiled: skipped, inductor needs a C++ compiler")
    peers = {
        "loops over tables, rows, EOS": as_released,
        "shifts once, loop over tables": shifted_once,
    }
    streams = [torch.from_numpy(stream_of((batch, length), n)) for n in (every, 0, 16)]
    for ids in streams:
        truth = as_released(ids)
        for name, call in {**peers, **ours}.items():
            assert torch.equal(call(ids), truth), name
    print(f"torch, {batch} x {length:,} tokens, 12 tables, an EOS every {every} tokens, 1 thread")
    calls = {name: partial(call, streams[0]) for name, call in {**peers, **ours}.items()}
    show(contest(calls, rounds, 5), "ms")
    for name, call in ours.items():
        times = contest({str(i): partial(call, ids) for i, ids in enumerate(streams)}, rounds, 5)
        for i, n in ((0, every), (2, 16)):
            ratio = median_ratio(times[str(i)], times["1"])
            print(f"  {name}: an EOS every {n} tokens takes {ratio:.3f} x the time of none")


def numpy_rows(tokens: np.ndarray, spec: NgramSpec) -> np.ndarray:
    """Whole-array numpy: shifts once, then a sum and a remainder for each table."""
    ids = tokens.astype(np.int64)
    positions = np.arange(len(ids))
    after_eos = np.maximum.accumulate(np.where(ids == EOS, positions + 1, 0))
    start = np.concatenate([[0], after_eos[:-1]])
    shifted = [
        np.where(positions - s >= start, np.roll(ids, s), 0) for s in range(1, spec.max_order)
    ]
    out = np.empty((len(ids), spec.num_tables), dtype=np.int64)
    for i, (order, rows) in enumerate(zip(spec.table_orders, spec.table_rows, strict=True)):
        total = ids.copy()
        for s in range(1, order):
            total += shifted[s - 1] * pow(spec.vocab_size, s, rows)
        out[:, i] = total % rows
    return out


def numba_rows(num_tokens: int, every: int, rounds: int) -> None:
    """The Numba twin on one core."""
    tokens = stream_of((num_tokens,), every).astype(np.uint32)
    head = tokens[:100_000]
    assert np.array_equal(row_ids(head, LITE), numpy_rows(head, LITE))
    calls = {
        "ngscale (Numba)": lambda: row_ids(tokens, LITE),
        "numpy": lambda: numpy_rows(tokens, LITE),
    }
    times = contest(calls, rounds)
    print(f"Numba, {num_tokens:,} tokens, 12 tables, 1 core")
    show(times, "ms")
    for name, own in times.items():
        rate = 12 * num_tokens / (statistics.median(own) / 1000)
        best = 12 * num_tokens / (min(own) / 1000)
        print(f"  {name}: {rate / 1e6:.0f}M token-tables a second (best round {best / 1e6:.0f}M)")


def main() -> None:
    """Run both contests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--every", type=int, default=512, help="tokens from EOS to EOS")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--numba-tokens", type=int, default=10_000_000)
    parser.add_argument("--numba-rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds:
        torch_rows(options.batch, options.length, options.every, options.rounds)
    if options.numba_tokens:
        numba_rows(options.numba_tokens, options.every, options.numba_rounds)


if __name__ == "__main__":
    main()
