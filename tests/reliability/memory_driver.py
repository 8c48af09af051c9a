"""python -m tests.reliability.memory_driver WHAT LIMIT DIRECTORY: growth of the peak RSS, the end.

WHAT is done on a tiny input first: what the interpreter, the libraries, the compiled kernels and
their threads take is the baseline. Then the kernel forgets the peak (``clear_refs``), the same is
done on an input that needs several times LIMIT bytes, and VmHWM less the VmRSS before is printed
with the error that it ended in ("" where it ended well). What is read of mapped files is counted.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ngscale.cache.measure import measure
from ngscale.cache.scopes import Scope
from ngscale.cache.trace import Rows
from ngscale.cluster import Plan, make_run
from ngscale.errors import ResourceError
from ngscale.ngrams import count_ngrams
from ngscale.resident import give_back
from ngscale.tokens import TokenStream

VOCAB_SIZE = 50_000
_TABLES = 12


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def stream(path: Path, num_tokens: int) -> TokenStream:
    """As the cache has it: mapped from a file."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for part in range(0, num_tokens, 2**18):
            size = min(2**18, num_tokens - part)
            tokens = np.minimum(rng.zipf(1.2, size), VOCAB_SIZE) - 1
            file.write(tokens.astype("<u4").tobytes())
    return TokenStream(
        tokens=np.memmap(path, dtype="<u4", mode="r"),
        doc_starts=np.array([0, num_tokens // 2, num_tokens]),
        vocab_size=VOCAB_SIZE,
        num_bytes=0,
    )


def count(limit: int, directory: Path, *, spill: bool) -> Callable[[int], None]:
    def act(num_tokens: int) -> None:
        count_ngrams(
            stream(directory / f"{num_tokens}.u32", num_tokens),
            orders=(2, 3, 4),
            max_memory_bytes=limit,
            directory=directory / "ngrams" if spill else None,
            threads=2,
        )

    return act


def merge(limit: int, directory: Path) -> Callable[[int], None]:
    """The merge of two tasks' tables; counted in the same process before, which is not measured."""

    def act(num_tokens: int) -> None:
        text = stream(directory / f"{num_tokens}.u32", num_tokens)
        plan = Plan(
            stream_sha256=text.sha256(),
            vocab_size=VOCAB_SIZE,
            orders=(2, 3, 4),
            cross_documents=False,
            num_tasks=2,
            max_memory_bytes=limit,
        )
        run = make_run(directory / f"tasks-{num_tokens}", text, plan)
        for rank in range(2):
            run.run_task("count", rank)
        give_back()
        forget_peak()
        for rank in range(2):
            run.run_task("merge", rank)

    return act


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def cache(limit: int) -> Callable[[int], None]:
    scope = Scope(name="all tables", kind="all", order=None, tables=tuple(range(_TABLES)))

    def act(num_positions: int) -> None:
        def source() -> Iterator[Rows]:
            rng = np.random.default_rng(0)
            for start in range(0, num_positions, 2**12):
                size = min(2**12, num_positions - start)
                yield rng.integers(0, 2**30, (size, _TABLES))

        measure(
            source,
            scope,
            num_positions=num_positions,
            rows_per_page=1,
            with_clock=True,
            max_bytes=limit,
        )

    return act


def main() -> None:
    what, limit, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    acts = {
        "spilled": (count(limit, directory, spill=True), 5_000, 8_000_000),
        "in memory": (count(limit, directory, spill=False), 5_000, 6_000_000),
        "merged": (merge(limit, directory), 5_000, 8_000_000),
        "cache": (cache(limit), 2_000, 2_000_000),
    }
    act, little, much = acts[what]
    act(little)
    forget_peak()
    before, error = status("VmRSS"), ""
    try:
        act(much)
    except ResourceError as refused:
        error = str(refused)
    sys.stdout.write(json.dumps({"growth": status("VmHWM") - before, "error": error}))


if __name__ == "__main__":
    main()
