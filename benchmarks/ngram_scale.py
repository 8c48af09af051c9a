"""Counting n-grams of more tokens than memory holds: time, peak memory and disk, by tokens.

A built corpus (``--corpus``), or the synthetic stream of ``ngram_extraction.py`` at several
lengths (``--tokens``), counted by a process of its own within ``--max-memory`` and spilled to
files. Anonymous memory is what the count allocates on top of its process; pages of mapped files
are the system's to drop.

    python -m benchmarks.ngram_scale --corpus kernel-code --tokenizer tekken --max-memory 4G
    python -m benchmarks.ngram_scale --tokens 2.5e8,5e8,1e9 --orders 2,3 --max-memory 2G
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ngram_extraction import VOCAB_SIZE, draw
from ngscale.ngrams import count_ngrams
from ngscale.tokens import TokenStream
from ngscale.units import format_bytes, parse_bytes

_SAMPLE_S = 0.02
WARM_UP_TOKENS = 200_000


def write_synthetic(path: Path, num_tokens: int) -> None:
    """``ngram_extraction.synthetic``, straight into a .npy file."""
    tokens = np.lib.format.open_memmap(path, "w+", np.uint32, (num_tokens,))
    draw(np.asarray(tokens))
    tokens.flush()


def read_stream(options: argparse.Namespace) -> TokenStream:
    """What the child counts, mapped read-only."""
    if options.corpus:
        from ngscale.commands.source import read_source

        return read_source([options.corpus], options.tokenizer)[0]
    return stream_of(np.load(options.child, mmap_mode="r"), VOCAB_SIZE)


def stream_of(tokens: Any, vocab_size: int) -> TokenStream:
    """One document."""
    starts = np.array([0, len(tokens)], dtype=np.int64)
    return TokenStream(tokens=tokens, doc_starts=starts, vocab_size=vocab_size, num_bytes=0)


@contextmanager
def peak_anonymous() -> Iterator[list[int]]:
    """Largest growth of anonymous memory while the block runs, in bytes."""
    peak = [0]
    before, done = anonymous_bytes(), threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_S):
            peak[0] = max(peak[0], anonymous_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def anonymous_bytes() -> int:
    """Of this process now."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Count in this process, after a warm-up on a few tokens."""
    orders = [int(order) for order in options.orders.split(",")]
    limit = parse_bytes(options.max_memory)
    stream = read_stream(options)
    warm_up = np.array(stream.tokens[:WARM_UP_TOKENS])
    count_ngrams(stream_of(warm_up, stream.vocab_size), orders=orders, max_memory_bytes=limit)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch, peak_anonymous() as peak:
        wall, before = time.perf_counter(), os.times()
        directory = Path(scratch) / "run"
        tables = count_ngrams(stream, orders=orders, max_memory_bytes=limit, directory=directory)
        wall, after = time.perf_counter() - wall, os.times()
        written = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        distinct = {order: table.distinct for order, table in tables.items()}
    return {
        "tokens": stream.num_tokens,
        "wall": wall,
        "cpu": after.user - before.user + after.system - before.system,
        "anonymous": peak[0],
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "written": written,
        "distinct": distinct,
    }


def main() -> None:
    """Measure every length and print a line of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus")
    parser.add_argument("--tokenizer", default="tekken")
    parser.add_argument("--tokens", default="2.5e7,5e7,1e8")
    parser.add_argument("--orders", default="2,3,4,5")
    parser.add_argument("--max-memory", default="1G")
    parser.add_argument("--scratch", type=Path, help="where to spill; needs tens of GB")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options)))
        return
    if options.write:
        write_synthetic(Path(options.write[1]), int(options.write[0]))
        return
    print(f"orders {options.orders} within {options.max_memory}, {os.cpu_count()} threads")
    heads = ("tokens", "wall", "CPU", "Mtok/s", "allocated", "resident", "written", "distinct")
    print("".join(f"{head:>14}" for head in heads))
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        path = Path(scratch) / "tokens.npy"
        for length in [""] if options.corpus else options.tokens.split(","):
            if length:
                in_a_process(["--write", str(int(float(length))), str(path)])
            report(json.loads(in_a_process([*sys.argv[1:], "--child", str(path)])))


def in_a_process(arguments: list[str]) -> str:
    """This script in a fresh interpreter, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.ngram_scale", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(found: dict[str, Any]) -> None:
    """One line."""
    cells = [
        f"{found['tokens']:,}",
        f"{found['wall']:.0f} s",
        f"{found['cpu']:.0f} s",
        f"{found['tokens'] / found['wall'] / 1e6:.2f}",
        *(format_bytes(found[key]) for key in ("anonymous", "resident", "written")),
    ]
    print("".join(f"{cell:>14}" for cell in cells) + f"  {found['distinct']}", flush=True)


if __name__ == "__main__":
    main()
