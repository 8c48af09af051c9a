"""Tokenising throughput of ngscale beside the batch call of the library it uses, in one run.

Ours reads the corpus file, keeps document boundaries, writes the memory-mapped stream with its
checkpoints and hashes it; the library gets the same documents in memory, in one call with as many
threads, and leaves lists of Python integers. Runs alternate; medians of wall and processor time.

    python benchmarks/tokenising.py --corpus english --tokenizer tekken --megabytes 24
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from ngscale.corpus import Reading, default_sources, read_parts
from ngscale.tokenizer import HfEngine, RankEngine, Tokenizer, load_tokenizer
from ngscale.tokens import read_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of one run."""

    wall_s: float
    cpu_s: float


def sample(source: str | None, num_bytes: int) -> list[str]:
    """The first documents of a corpus, about ``num_bytes`` of them."""
    texts = [""]
    size = 0
    for part in read_parts([source] if source else default_sources(), Reading()):
        texts[-1] += part.text
        size += len(part.text)
        if part.ends:
            if size >= num_bytes:
                break
            texts.append("")
    return [text for text in texts if text]


def library_call(tokenizer: Tokenizer, texts: list[str]) -> Callable[[], int]:
    """The underlying library's own batch call; returns the tokens it made."""
    match tokenizer.engine:
        case RankEngine(backend=ranks):
            threads = os.cpu_count() or 1
            return lambda: sum(map(len, ranks.encode_ordinary_batch(texts, num_threads=threads)))
        case HfEngine(backend=backend):

            def encode() -> int:
                encoded = backend.encode_batch_fast(texts, add_special_tokens=False)
                return sum(len(item.ids) for item in encoded)

            return encode
    raise AssertionError(tokenizer.engine)


def timed(call: Callable[[], int], expected: int) -> Timing:
    """Seconds of a call that must return ``expected`` tokens."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    timing = Timing(wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)
    assert found == expected, (found, expected)
    return timing


def compare(tokenizer: Tokenizer, texts: list[str], repeats: int) -> None:
    """Print both throughputs and their ratio."""
    num_bytes = sum(len(text.encode()) for text in texts)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "sample.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=256)

        def ours() -> int:
            with tempfile.TemporaryDirectory() as cache:
                return read_stream([str(path)], tokenizer, cache=Path(cache)).num_tokens

        theirs = library_call(tokenizer, texts)
        expected = theirs()
        pairs = [(timed(ours, expected), timed(theirs, expected)) for _ in range(repeats)]
    print(f"{tokenizer.name}: {num_bytes / 1e6:.1f} MB, {expected:,} tokens, {repeats} runs each")
    for clock in ("wall_s", "cpu_s"):
        mine, other = (statistics.median(getattr(p[side], clock) for p in pairs) for side in (0, 1))
        ratios = [getattr(b, clock) / getattr(a, clock) for a, b in pairs]
        print(
            f"  {clock}: ngscale {num_bytes / mine / 1e6:6.2f} MB/s, {tokenizer.engine.version} "
            f"{num_bytes / other / 1e6:6.2f} MB/s, ratio {statistics.median(ratios):.0%} "
            f"({min(ratios):.0%} to {max(ratios):.0%})"
        )


def main() -> None:
    """One tokenizer on the command line, or the embedded one and, if it is built, tekken."""
    parser = argparse.ArgumentParser(description="Tokenising throughput beside the library's own.")
    parser.add_argument("--corpus", help="a file, or a built corpus; default: the two novels")
    parser.add_argument("--tokenizer", action="append", help="default: bpe-32768")
    parser.add_argument("--megabytes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    texts = sample(arguments.corpus, arguments.megabytes * 1_000_000)
    for name in arguments.tokenizer or ["bpe-32768"]:
        compare(load_tokenizer(name), texts, arguments.repeats)


if __name__ == "__main__":
    main()
