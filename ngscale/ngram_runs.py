"""A run directory: what an extraction has finished, so that a killed one goes on from there.

``ngrams-<key>/`` holds finished orders (``order-3.tokens.npy``, ``.counts.npy``, and
``order-3.json`` written last) and, while a run is under way, finished ranges of buckets in
``parts-<orders>/<low>-<high>/``. Everything is written beside its place, at its full size from
the start, and renamed: a full disk is met before the work, a kill leaves whole files only.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64, UInt32
from numpy.typing import NDArray

from ngscale import whole_files
from ngscale.errors import ResourceError
from ngscale.tokens import TokenStream
from ngscale.whole_files import TEMPORARY, disk_errors, replacing

_FORMAT = 1
_COPY_BYTES = 2**22


@contextmanager
def work_directory(root: Path) -> Iterator[None]:
    """This process's alone until the block ends; what a kill left half-written there is removed.

    Raises:
        ResourceError: another process works in it.
        InputError: the directory cannot be written.
    """
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResourceError(
                f"{root}: another process works there; wait for it or choose another directory"
            ) from error
        for left in [*root.glob(f"{TEMPORARY}*"), *root.glob(f"parts-*/{TEMPORARY}*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramRun:
    """One stream's run directory, for one policy of document boundaries."""

    root: Path
    key: Mapping[str, Any]
    """What the tables are a function of."""
    orders: tuple[int, ...]
    """Those asked for, which the parts hold together."""

    @property
    def _parts(self) -> Path:
        return self.root / f"parts-{'-'.join(map(str, self.orders))}"

    def parts(self) -> dict[int, int]:
        """Finished ranges of buckets: first bucket -> one past the last."""
        found: dict[int, int] = {}
        for path in self._parts.glob("[0-9]*-[0-9]*"):
            low, high = map(int, path.name.split("-"))
            if all(_part_size(path, order) is not None for order in self.orders):
                found[low] = max(high, found.get(low, high))
        return found

    @contextmanager
    def new_part(self, low: int, high: int, sizes: Mapping[int, int]) -> Iterator["PartWriter"]:
        """Room for the distinct n-grams of a range of buckets, kept if the block succeeds.

        Raises:
            ResourceError: the disk is full.
        """
        final = self._parts / f"{low}-{high}"
        with disk_errors(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=TEMPORARY))
            writer = PartWriter(files={}, sizes=sizes)
            try:
                for order, size in sizes.items():
                    for path, width in _part_files(temporary, order):
                        writer.files[path.name] = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
                        _reserve(writer.files[path.name], size * width)
                yield writer
                for file in writer.files.values():
                    os.fsync(file)
                shutil.rmtree(final, ignore_errors=True)
                whole_files.commit(temporary, final)
            finally:
                for file in writer.files.values():
                    os.close(file)
                shutil.rmtree(temporary, ignore_errors=True)

    def load(
        self, order: int
    ) -> tuple[UInt32[np.ndarray, "order G"], Int64[np.ndarray, " G"]] | None:
        """A finished order, memory-mapped; None where there is none that is whole."""
        tokens_path, counts_path, marker = self._order_files(order)
        try:
            document = json.loads(marker.read_bytes())
            tokens = np.load(tokens_path, mmap_mode="r")
            counts = np.load(counts_path, mmap_mode="r")
        except (OSError, ValueError):
            return None
        expected = {**self.key, "order": order, "distinct": len(counts)}
        if document != expected or tokens.shape != (order, len(counts)):
            return None
        return tokens, counts

    def join(self, order: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Make one table of the parts that ``ranges`` name, in their order.

        Raises:
            ResourceError: the disk is full.
        """
        parts = [self._parts / f"{low}-{high}" for low, high in ranges]
        sizes = [_part_size(path, order) or 0 for path in parts]
        tokens_path, counts_path, marker = self._order_files(order)
        marker.unlink(missing_ok=True)
        with _new_npy(tokens_path, "<u4", (order, sum(sizes))) as out:
            for row in range(order):
                for path, size in zip(parts, sizes, strict=True):
                    _copy(path / f"{order}.tokens", row * size * 4, size * 4, out)
        with _new_npy(counts_path, "<i8", (sum(sizes),)) as out:
            for path, size in zip(parts, sizes, strict=True):
                _copy(path / f"{order}.counts", 0, size * 8, out)
        with replacing(marker) as temporary:
            document = {**self.key, "order": order, "distinct": sum(sizes)}
            temporary.write_text(json.dumps(document, indent=2) + "\n")

    def finish(self) -> None:
        """Drop the parts: every order stands as a table."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _order_files(self, order: int) -> tuple[Path, Path, Path]:
        stem = self.root / f"order-{order}"
        return (
            stem.with_suffix(".tokens.npy"),
            stem.with_suffix(".counts.npy"),
            stem.with_suffix(".json"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """Files of reserved size; blocks of n-grams may be put in any sequence, by any thread."""

    files: dict[str, int]
    sizes: Mapping[int, int]

    def put(
        self,
        at: int,
        tokens: UInt32[np.ndarray, "order n"],
        counts: Int64[np.ndarray, " n"],
    ) -> None:
        """Write consecutive n-grams from column ``at`` on."""
        order = len(tokens)
        for row in range(order):
            place = (row * self.sizes[order] + at) * 4
            _write_at(self.files[f"{order}.tokens"], tokens[row], place)
        _write_at(self.files[f"{order}.counts"], counts, at * 8)


@contextmanager
def open_run(
    directory: Path,
    stream: TokenStream,
    orders: Sequence[int],
    *,
    cross_documents: bool,
    positions: tuple[int, int] | None = None,
) -> Iterator[NgramRun]:
    """The run directory of this stream; what a killed run left half-written is removed.

    Raises:
        ResourceError: another process works in it.
        InputError: the directory cannot be written.
    """
    run = run_of(directory, stream, orders, cross_documents=cross_documents, positions=positions)
    with work_directory(run.root):
        yield run


def run_of(
    directory: Path,
    stream: TokenStream,
    orders: Sequence[int],
    *,
    cross_documents: bool,
    positions: tuple[int, int] | None = None,
) -> NgramRun:
    """The same, whoever works in it: for reading, and for parts that nobody else writes."""
    key: dict[str, Any] = {
        "format": _FORMAT,
        "stream_sha256": stream.sha256(),
        "vocab_size": stream.vocab_size,
        "cross_documents": cross_documents,
    }
    if positions is not None:
        key["positions"] = list(positions)
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return NgramRun(root=directory / f"ngrams-{name}", key=key, orders=tuple(orders))


def _part_files(part: Path, order: int) -> tuple[tuple[Path, int], tuple[Path, int]]:
    """(file, bytes per n-gram) of the tokens and of the counts."""
    return (part / f"{order}.tokens", 4 * order), (part / f"{order}.counts", 8)


def _part_size(part: Path, order: int) -> int | None:
    """N-grams of an order in a part; None where its files are not whole."""
    try:
        tokens, counts = (path.stat().st_size for path, _ in _part_files(part, order))
    except OSError:
        return None
    whole = counts % 8 == 0 and tokens == counts // 8 * 4 * order
    return counts // 8 if whole else None


def _reserve(file: int, size: int) -> None:
    """Take the blocks now, so that a full disk is met here and not in the middle."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _write_at(file: int, array: NDArray[Any], place: int) -> None:
    data = np.ascontiguousarray(array).data.cast("B")
    while data:
        written = os.pwrite(file, data, place)
        data, place = data[written:], place + written


@contextmanager
def _new_npy(path: Path, descr: str, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """An .npy file of reserved size, open behind its header; it replaces ``path``."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(descr).itemsize
        _reserve(file.fileno(), file.tell() + size)
        yield file
        file.flush()
        os.fsync(file.fileno())


def _copy(source: Path, start: int, size: int, out: BinaryIO) -> None:
    with source.open("rb") as file:
        file.seek(start)
        while size:
            block = file.read(min(size, _COPY_BYTES))
            out.write(block)
            size -= len(block)
