"""Documents -> TokenStream: uint32 ids with document boundaries, memory-mapped."""

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale import hub, token_cache
from ngscale.corpus import (
    OnBadRecord,
    Part,
    Reading,
    expand,
    read_parts,
    source_files,
    split_suffix,
)
from ngscale.errors import DiskFullError, InputError, NgscaleError, ResourceError, UsageError
from ngscale.resident import let_go
from ngscale.tokenizer import DEFAULT_TOKENIZER as DEFAULT_TOKENIZER
from ngscale.tokenizer import MAX_VOCAB_SIZE as MAX_VOCAB_SIZE
from ngscale.tokenizer import Tokenizer as Tokenizer
from ngscale.tokenizer import load_tokenizer as load_tokenizer

BIN_DTYPES = ("uint16", "uint32")
PIECE_CHARS = 2**18
"""Documents of more than twice this are encoded in pieces, where that changes no id."""
_MARGIN_CHARS = 256
_MAX_CUTS_TRIED = 16
_MAY_CUT = re.compile(r"(?<=[^\W\d_])(?=[^\w\n][^\W\d_])|(?<=\S\n)(?=[^\W\d_])")
_MAX_PIECE_CHARS = 2**24
"""tokenizers needs up to 230 bytes a character for a text it may not part: 4 GB for this one."""
_BIN_BLOCK_IDS = 2**22
_HASH_TOKENS = 2**22

Advance = Callable[[int], None]
Encoded = tuple[UInt32[np.ndarray, " T"], int, bool]
"""Ids of a part of a document, the bytes of its text, and whether the document ends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenStream:
    """Token ids of a corpus. Documents keep their boundaries: no n-gram crosses one."""

    tokens: UInt32[np.ndarray, " T"]
    """Memory-mapped and read-only where it comes from the cache."""
    doc_starts: Int64[np.ndarray, " num_docs_plus_1"]
    """Index of each document's first token, and T at the end."""
    vocab_size: int
    """V0: all ids are below it."""
    num_bytes: int
    """UTF-8 bytes of the text; 0 where the corpus came as token ids."""
    bad_records: Mapping[str, int] = field(default_factory=dict)
    """Records ``skipped`` and ``replaced`` while reading."""
    known_sha256: str = ""
    """What ``sha256()`` returns, where it has been computed before."""

    @property
    def num_tokens(self) -> int:
        """T."""
        return len(self.tokens)

    @property
    def num_docs(self) -> int:
        """Documents, empty ones not counted."""
        return len(self.doc_starts) - 1

    def sha256(self) -> str:
        """Hash of ids and boundaries: what every analysis is a function of."""
        if self.known_sha256:
            return self.known_sha256
        digest = hashlib.sha256()
        for start in range(0, self.num_tokens, _HASH_TOKENS):
            block = self.tokens[start : start + _HASH_TOKENS]
            digest.update(np.ascontiguousarray(block, dtype="<u4").data)
            let_go(block)
        digest.update(self.doc_starts.astype("<i8").tobytes())
        return digest.hexdigest()


def ignore(steps: int, /) -> None:
    """The progress of a caller who does not ask."""


def read_stream(
    sources: Sequence[str],
    tokenizer: Tokenizer,
    *,
    text_field: str = "text",
    split: str = "train",
    on_bad_record: OnBadRecord = "error",
    cache: Path | None = None,
    advance: Advance = ignore,
) -> TokenStream:
    """Encode every document of the sources, in memory bounded by a few megabytes of text.

    With a ``cache`` directory the stream is kept there under a key of contents and options, found
    again, and resumed where a killed run stopped. A data set of the hub is keyed by the commit its
    files are read at, and read anew where they have none. ``advance`` is told the bytes of the
    source files as they are read.

    Raises:
        InputError: a source is unreadable or bad, or there is no text in any.
        NetworkError: a hub data set cannot be reached.
    """
    reading = Reading(
        text_field=text_field, split=split, on_bad_record=on_bad_record, advance=advance
    )
    files = source_files(sources)
    pinned = [] if cache is None else _pinned(sources, reading, cache)

    def encode(num_done: int) -> Iterator[list[Encoded]]:
        return _encoded(read_parts(sources, reading), tokenizer, num_done)

    def key(root: Path) -> str:
        return token_cache.entry_key(
            tokenizer=tokenizer.sha256,
            engine=tokenizer.engine.version,
            pieces=PIECE_CHARS,
            text_field=text_field,
            on_bad_record=on_bad_record,
            files=[[*split_suffix(path), token_cache.file_sha256(path, root)] for path in files],
            **({"hub": pinned} if pinned else {}),
        )

    keep = cache if pinned is not None else None
    return _stored(sources, files, tokenizer.vocab_size, keep, key, encode, reading.bad)


def _pinned(sources: Sequence[str], reading: Reading, cache: Path) -> list[Any] | None:
    """Where among the files each data set of the hub stands, and its fingerprint; None where one
    has no fingerprint.
    """
    found: list[Any] = []
    for i, source in enumerate(sources):
        if not source.startswith(hub.PREFIX):
            continue
        known = reading.dataset(source).fingerprint(
            reading.split, lambda path: token_cache.file_sha256(path, cache)
        )
        if known is None:
            return None
        found.append([len(source_files(sources[:i])), known])
    return found


def _stored(
    sources: Sequence[str],
    files: Sequence[Path],
    vocab_size: int,
    cache: Path | None,
    key: Callable[[Path], str],
    encode: Callable[[int], Iterator[list[Encoded]]],
    bad: Counter[str],
) -> TokenStream:
    """The stream of the cache, made first if it is not there; without a cache, one that lives as
    long as this process, its files already unlinked.
    """
    with _root(cache) as root:
        before = _identities(files)
        name = key(cache) if cache is not None else "stream"
        entry = token_cache.open_entry(root, name)
        if entry is None:
            with token_cache.locked(root, name):
                if (entry := token_cache.open_entry(root, name)) is None:
                    _write(token_cache.Writer(root, name), encode, bad, sources, before)
                    entry = token_cache.open_entry(root, name)
        assert entry is not None
    return TokenStream(
        tokens=entry.tokens,
        doc_starts=entry.doc_starts,
        vocab_size=vocab_size,
        num_bytes=entry.num_bytes,
        bad_records=entry.bad_records,
        known_sha256=entry.sha256,
    )


def _identities(files: Iterable[Path]) -> dict[Path, tuple[int, int, int]]:
    return {path: token_cache.file_identity(path) for path in files}


@contextmanager
def _root(cache: Path | None) -> Iterator[Path]:
    if cache is not None:
        yield cache / "tokens"
        return
    scratch = tempfile.mkdtemp(prefix="ngscale-")
    try:
        yield Path(scratch)
    finally:
        shutil.rmtree(scratch)


def _write(
    writer: token_cache.Writer,
    encode: Callable[[int], Iterator[list[Encoded]]],
    bad: Counter[str],
    sources: Sequence[str],
    before: Mapping[Path, tuple[int, int, int]],
) -> None:
    try:
        for chunk in encode(writer.state.num_parts):
            writer.append(chunk)
        # The key is of these files as they were; a directory may have others by now.
        if changed := dict(before.items() ^ _identities(source_files(sources)).items()):
            raise InputError(
                f"{min(changed)}: changed while it was read; try again when nothing writes to it"
            )
        if writer.state.num_tokens == 0:
            raise InputError(f"{', '.join(sources)}: the corpus is empty; it has no token")
    except DiskFullError:
        writer.close()
        raise
    except NgscaleError:  # it would fail there again
        writer.discard()
        raise
    except BaseException:
        writer.pause()
        raise
    writer.finish({"skipped": bad["skipped"], "replaced": bad["replaced"]})


def _encoded(parts: Iterable[Part], tokenizer: Tokenizer, num_done: int) -> Iterator[list[Encoded]]:
    """Chunks of encoded pieces after the first ``num_done``, in order, encoded on all cores.

    While the workers encode, this thread reads on and the caller writes.
    """
    num_workers = os.cpu_count() or 1

    def encode(pieces: list[Part]) -> list[Encoded]:
        ids = tokenizer.encode([piece.text for piece in pieces])
        sizes = (_num_bytes(piece.text) for piece in pieces)
        return list(zip(ids, sizes, (piece.ends for piece in pieces), strict=True))

    pieces = _pieces(parts, tokenizer)
    for _ in zip(range(num_done), pieces, strict=False):
        pass
    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[Future[list[Encoded]]] = deque()
        for group in _groups(pieces, tokenizer.engine.group_chars):
            pending.append(pool.submit(encode, group))
            if len(pending) > 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def _groups(pieces: Iterable[Part], group_chars: int) -> Iterator[list[Part]]:
    group: list[Part] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece.text)
        if size >= group_chars or len(group) >= group_chars:
            yield group
            group, size = [], 0
    if group:
        yield group


def _pieces(parts: Iterable[Part], tokenizer: Tokenizer) -> Iterator[Part]:
    """The documents, long ones in pieces; the cuts depend on a document's text alone.

    Raises:
        ResourceError: a stretch too long for memory has no place to cut.
    """
    held = ""
    arrived: list[str] = []
    num_arrived, searched = 0, PIECE_CHARS
    for part in parts:
        arrived.append(part.text)
        num_arrived += len(part.text)
        if not part.ends and num_arrived < max(PIECE_CHARS, len(held)):
            continue  # joining at every part would be quadratic where no cut is found
        text, at = "".join([held, *arrived]), 0
        while len(text) - at >= searched + PIECE_CHARS + _MARGIN_CHARS:
            cut = _cut(text, at + searched, at + searched + PIECE_CHARS, tokenizer)
            if cut is None:
                searched += PIECE_CHARS
                if searched > _MAX_PIECE_CHARS:
                    raise ResourceError(
                        f"a document has {searched:,} characters without a place where "
                        f"{tokenizer.name} could part it, from {text[at : at + 40]!r} on; "
                        "make it several documents"
                    )
                continue
            yield Part(text=text[at:cut], ends=False)
            at, searched = cut, PIECE_CHARS
        held, arrived, num_arrived = text[at:], [], 0
        if part.ends:
            yield Part(text=held)
            held, searched = "", PIECE_CHARS


def _cut(text: str, low: int, high: int, tokenizer: Tokenizer) -> int | None:
    """Where in [low, high) the text may be parted.

    Before what stands between two words, or at the start of a line; and only if encoding the
    surroundings in two gives the same ids as encoding them whole.
    """
    for match in islice(_MAY_CUT.finditer(text, low, high), _MAX_CUTS_TRIED):
        cut = match.start()
        before, after = text[cut - _MARGIN_CHARS : cut], text[cut : cut + _MARGIN_CHARS]
        whole, left, right = tokenizer.encode([before + after, before, after])
        if np.array_equal(whole, np.concatenate([left, right])):
            return cut
    return None


def read_bin(
    sources: Sequence[str],
    *,
    dtype: str,
    vocab_size: int,
    cache: Path | None = None,
    advance: Advance = ignore,
) -> TokenStream:
    """nanoGPT-style files of raw little-endian ids; each file is one document.

    Raises:
        InputError: a file's length does not fit ``dtype``, or an id is not below ``vocab_size``.
    """
    if dtype not in BIN_DTYPES:
        raise UsageError(f"--dtype {dtype}: takes {' or '.join(BIN_DTYPES)}")
    if vocab_size > 2**32:
        raise UsageError(f"--vocab-size {vocab_size}: ids are below 2^32")
    files = source_files(sources)
    width = np.dtype(dtype).itemsize
    for path in files:
        if path.stat().st_size % width:
            size = path.stat().st_size
            raise InputError(f"{path}: {size} bytes is no whole number of {dtype} ids")

    def encode(num_done: int) -> Iterator[list[Encoded]]:
        blocks = (
            block for path in files for block in _bin_blocks(path, dtype, vocab_size, advance)
        )
        for _ in zip(range(num_done), blocks, strict=False):
            pass
        return ([block] for block in blocks)

    def key(root: Path) -> str:
        hashes = [token_cache.file_sha256(path, root) for path in files]
        return token_cache.entry_key(dtype=dtype, vocab_size=vocab_size, files=hashes)

    return _stored(sources, files, vocab_size, cache, key, encode, Counter())


def _bin_blocks(path: Path, dtype: str, vocab_size: int, advance: Advance) -> Iterator[Encoded]:
    num_left = path.stat().st_size // np.dtype(dtype).itemsize
    start = 0
    try:
        with path.open("rb") as file:
            while num_left:
                ids = np.fromfile(file, np.dtype(dtype).newbyteorder("<"), _BIN_BLOCK_IDS)
                if len(ids) == 0:
                    raise InputError(f"{path}: became shorter while it was read")
                if int(ids.max()) >= vocab_size:
                    index = int(np.argmax(ids >= vocab_size))
                    raise InputError(
                        f"{path}: id {ids[index]} at index {start + index} is not below "
                        f"--vocab-size {vocab_size}"
                    )
                num_left -= len(ids)
                start += len(ids)
                advance(ids.nbytes)
                yield ids.astype(np.uint32), 0, num_left == 0
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def is_bin(sources: Sequence[str]) -> bool:
    """Whether the sources are files of token ids.

    Raises:
        UsageError: some are and some are not.
    """
    kinds = {
        not source.startswith(hub.PREFIX) and all(p.suffix == ".bin" for p in expand(source))
        for source in sources
    }
    if len(kinds) > 1:
        raise UsageError("--corpus mixes .bin files of token ids with text; use one kind")
    return kinds == {True}
