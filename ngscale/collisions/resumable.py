"""A sweep too long to lose: an estimate first, then chunk by chunk, each kept when it is finished.

``<directory>/<key>/<first>-<last>.i64`` holds the counts of one chunk of sizes. The key hashes all
they are a function of, so a run with another corpus, base, range or metric finds nothing of them.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ngscale.collisions.occupancy import Sharing, occupied_rows, sharing
from ngscale.collisions.threads import Done, Progress, nobody, num_threads
from ngscale.ngram_runs import work_directory
from ngscale.ngrams import NgramTable
from ngscale.units import format_duration
from ngscale.whole_files import replacing

_FORMAT = 1
CHUNK_SIZES = 4096
"""What a kill loses at most: a few seconds per million n-grams."""
_PROBE_SIZES = 128
"""Per thread, to estimate from: a run that shares one sort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Where finished chunks are kept, and who is told what is going on."""

    directory: Path
    tell: Callable[[str], object]


def resumable_sharing(
    table: NgramTable,
    hash_base: int,
    sizes: Sequence[int],
    *,
    shared: bool,
    keep: Keep,
    progress: Progress,
) -> Sharing:
    """``sharing``, or with ``shared=False`` occupied rows alone; goes on where a run was killed.

    Raises:
        ResourceError: the disk is full, or another process makes the same sweep.
        InputError: the directory cannot be written.
    """
    root = keep.directory / _key(table, hash_base, sizes, shared=shared)
    starts = range(0, len(sizes), CHUNK_SIZES)
    chunks = [list(sizes[start : start + CHUNK_SIZES]) for start in starts]
    with work_directory(root):
        found = [_load(_path(root, chunk), len(chunk), shared=shared) for chunk in chunks]
        todo = [i for i, counts in enumerate(found) if counts is None]
        left = sum(len(chunks[i]) for i in todo)
        if len(todo) < len(chunks):
            keep.tell(f"{len(sizes) - left:,} of {len(sizes):,} sizes are there already")
        if todo:
            keep.tell(_estimate(table, hash_base, chunks[todo[0]], left, shared=shared))
        with progress(f"{table.order}-gram tables", left) as done:
            for i in todo:
                counts = _count(table, hash_base, chunks[i], done, shared=shared)
                with replacing(_path(root, chunks[i])) as temporary:
                    temporary.write_bytes(counts.astype("<i8").tobytes())
                found[i] = counts
    return Sharing(*np.concatenate([counts for counts in found if counts is not None], axis=1))


def _key(table: NgramTable, hash_base: int, sizes: Sequence[int], *, shared: bool) -> str:
    digest = hashlib.sha256()
    described = {
        "format": _FORMAT,
        "order": table.order,
        "distinct": table.distinct,
        "base": hash_base,
        "metrics": "sharing" if shared else "occupied",
    }
    digest.update(json.dumps(described).encode())
    for array in (np.asarray(sizes, dtype=np.int64), table.tokens, table.counts):
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()[:32]


def _path(root: Path, chunk: Sequence[int]) -> Path:
    return root / f"{chunk[0]}-{chunk[-1]}.i64"


def _load(path: Path, number: int, *, shared: bool) -> Int64[np.ndarray, "metrics S"] | None:
    """None where the file is missing or not whole."""
    metrics = 3 if shared else 1
    try:
        counts = np.frombuffer(path.read_bytes(), dtype="<i8")
    except (OSError, ValueError):
        return None
    return counts.reshape(metrics, number) if len(counts) == metrics * number else None


def _count(
    table: NgramTable, hash_base: int, sizes: Sequence[int], done: Done, *, shared: bool
) -> Int64[np.ndarray, "metrics S"]:
    if not shared:
        return occupied_rows(table, hash_base, sizes, done=done)[None]
    counts = sharing(table, hash_base, sizes, done=done)
    return np.stack([part for part in counts if part is not None])


def _estimate(
    table: NgramTable, hash_base: int, sizes: Sequence[int], left: int, *, shared: bool
) -> str:
    """Measured on a few of ``sizes``; what is counted is thrown away."""
    few = sizes[: _PROBE_SIZES * num_threads()]
    _count(table, hash_base, few[:1], nobody, shared=shared)
    _count(table, hash_base, few[:8], nobody, shared=shared)  # both kernels are compiled now
    wall, processor = time.perf_counter(), time.process_time()
    _count(table, hash_base, few, nobody, shared=shared)
    scale = left / len(few)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return (
        f"{left:,} sizes of {table.distinct:,} {table.order}-grams: about "
        f"{format_duration(wall * scale)} ({format_duration(processor * scale)} of processor time)"
    )
