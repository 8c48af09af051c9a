"""Encoded corpora on disk: written chunk by chunk, resumed after a kill, memory-mapped.

An entry is a directory ``<cache>/tokens/<key>`` with ``tokens.u32``, ``doc_starts.i64``,
``stream.json`` and ``state.json``; the key hashes everything the ids are a function of. While it is
being written it is called ``.<key>.partial``, and ``state.json`` says about once a second how much
of the two files counts; a rename makes it an entry. One process writes an entry at a time.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.artefacts import file_digest
from ngscale.errors import InputError
from ngscale.whole_files import disk_errors, replacing, write_all

FORMAT = 1
"""Raised when the same inputs would give another entry."""
_TOKENS, _DOC_STARTS, _META, _STATE = "tokens.u32", "doc_starts.i64", "stream.json", "state.json"
_BLOCK_BYTES = 2**24
CHECKPOINT_S = 1.0
"""At most this much work is lost by a kill."""
_WAY_OUT = "set NGSCALE_CACHE"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far a writer has come."""

    num_parts: int = 0
    """Parts of documents taken from the corpus."""
    num_tokens: int = 0
    num_docs: int = 0
    """Documents with at least one token."""
    num_bytes: int = 0
    doc_start: int = 0
    """First token of the document that is being written."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """A finished stream, memory-mapped read-only."""

    tokens: UInt32[np.ndarray, " T"]
    doc_starts: Int64[np.ndarray, " num_docs_plus_1"]
    num_bytes: int
    sha256: str
    bad_records: Mapping[str, int]


def entry_key(**inputs: Any) -> str:
    """The name of the entry that ``inputs`` (plain JSON) determine."""
    text = json.dumps({"format": FORMAT, **inputs}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_identity(path: Path) -> tuple[int, int, int]:
    """Size, time of change and inode: what is another one after the file has been written to.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def file_sha256(path: Path, cache: Path) -> str:
    """Hash of a file's content, remembered by path, size and time of change.

    Raises:
        InputError: the file cannot be read.
    """
    before = file_identity(path)
    try:
        identity = "|".join(map(str, (path.resolve(), *before)))
        remembered = cache / "hashes" / hashlib.sha256(os.fsencode(identity)).hexdigest()
        if remembered.is_file() and len(known := remembered.read_text()) == 64:
            return known
        found = file_digest(path)
        unchanged = file_identity(path) == before
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if unchanged:
        _write_whole(remembered, found)
    return found


def open_entry(root: Path, key: str) -> Entry | None:
    """The finished entry ``key`` below ``root``; None if there is none whole."""
    directory = root / key
    try:
        meta = json.loads((directory / _META).read_bytes())
        sizes = [(directory / name).stat().st_size for name in (_TOKENS, _DOC_STARTS)]
    except (OSError, ValueError):
        return None
    if sizes != [4 * meta["num_tokens"], 8 * (meta["num_docs"] + 1)]:
        return None
    return Entry(
        tokens=np.memmap(directory / _TOKENS, dtype="<u4", mode="r"),
        doc_starts=np.memmap(directory / _DOC_STARTS, dtype="<i8", mode="r"),
        num_bytes=meta["num_bytes"],
        sha256=meta["sha256"],
        bad_records=meta["bad_records"],
    )


class Writer:
    """Appends encoded parts of documents to a partial entry, from where the last one stopped."""

    def __init__(self, directory: Path, key: str) -> None:
        self._entry = directory / key
        self._partial = _partial_of(directory, key)
        with self._errors():
            self.state = self._resume()
            # Nothing is buffered: what a full disk refuses would be written again at the end.
            self._tokens = (self._partial / _TOKENS).open("r+b", buffering=0)
            self._doc_starts = (self._partial / _DOC_STARTS).open("r+b", buffering=0)
            self._tokens.truncate(4 * self.state.num_tokens)
            self._doc_starts.truncate(8 * (self.state.num_docs + 1))
        self._saved_at = time.monotonic()
        self._tokens.seek(0, os.SEEK_END)
        self._doc_starts.seek(0, os.SEEK_END)

    def _errors(self) -> AbstractContextManager[None]:
        return disk_errors(self._partial, _WAY_OUT)

    def _resume(self) -> State:
        """What ``state.json`` says, if the two files hold that much; else a new start."""
        paths = [self._partial / name for name in (_TOKENS, _DOC_STARTS)]
        try:
            state = State(**json.loads((self._partial / _STATE).read_bytes()))
            sizes = [path.stat().st_size for path in paths]
        except (OSError, ValueError, TypeError):
            sizes, state = [0, 0], State()
        if sizes[0] < 4 * state.num_tokens or sizes[1] < 8 * (state.num_docs + 1):
            paths[0].write_bytes(b"")
            paths[1].write_bytes(np.zeros(1, dtype="<i8").tobytes())
            state = State()
        return state

    def append(self, parts: Sequence[tuple[UInt32[np.ndarray, " T"], int, bool]]) -> None:
        """Add the (ids, bytes of text, whether the document ends) of each part.

        Raises:
            DiskFullError: what ``state.json`` vouches for stays; ``close`` leaves it.
        """
        total, start, num_docs = self.state.num_tokens, self.state.doc_start, self.state.num_docs
        starts: list[int] = []
        for ids, _, ends in parts:
            total += len(ids)
            if ends and total > start:
                starts.append(total)
                start = total
        with self._errors():
            if parts:
                ids = np.concatenate([ids for ids, _, _ in parts])
                write_all(self._tokens, ids.astype("<u4", copy=False).tobytes())
            write_all(self._doc_starts, np.array(starts, dtype="<i8").tobytes())
        self.state = State(
            num_parts=self.state.num_parts + len(parts),
            num_tokens=total,
            num_docs=num_docs + len(starts),
            num_bytes=self.state.num_bytes + sum(size for _, size, _ in parts),
            doc_start=start,
        )
        if time.monotonic() - self._saved_at >= CHECKPOINT_S:
            self._save()

    def _save(self) -> None:
        _write_whole(self._partial / _STATE, json.dumps(asdict(self.state)))
        self._saved_at = time.monotonic()

    def finish(self, bad_records: Mapping[str, int]) -> None:
        """Hash the stream and turn the partial entry into a whole one."""
        self._save()
        with self._errors():
            for file in (self._tokens, self._doc_starts):
                os.fsync(file.fileno())
        self.close()
        meta = {
            "num_tokens": self.state.num_tokens,
            "num_docs": self.state.num_docs,
            "num_bytes": self.state.num_bytes,
            "sha256": _sha256_of(self._partial / _TOKENS, self._partial / _DOC_STARTS),
            "bad_records": dict(bad_records),
        }
        _write_whole(self._partial / _META, json.dumps(meta))
        shutil.rmtree(self._entry, ignore_errors=True)  # one that was damaged
        with self._errors():
            self._partial.rename(self._entry)

    def pause(self) -> None:
        """Leave the partial entry for the next run."""
        self._save()
        self.close()

    def discard(self) -> None:
        """Remove the partial entry: its corpus will never be whole."""
        self.close()
        shutil.rmtree(self._partial, ignore_errors=True)

    def close(self) -> None:
        """Leave the partial entry as ``state.json`` has it."""
        self._tokens.close()
        self._doc_starts.close()


def _partial_of(root: Path, key: str) -> Path:
    return root / f".{key}.partial"


@contextmanager
def locked(root: Path, key: str) -> Iterator[None]:
    """Wait until no other process writes this entry.

    Raises:
        DiskFullError: the disk is full.
        InputError: the cache directory cannot be written.
    """
    import fcntl

    partial = _partial_of(root, key)
    handle = -1
    with disk_errors(root, _WAY_OUT):
        while not _same(partial, handle):  # whoever had it has renamed or removed it: once more
            if handle >= 0:
                os.close(handle)
            partial.mkdir(parents=True, exist_ok=True)
            handle = os.open(partial, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def _same(path: Path, handle: int) -> bool:
    try:
        return handle >= 0 and path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _sha256_of(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _write_whole(path: Path, text: str) -> None:
    with replacing(path, _WAY_OUT) as temporary:
        temporary.write_text(text)
