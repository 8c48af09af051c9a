"""Tokenizers, and documents -> TokenStream: uint32 ids with document boundaries."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.corpus import HUB_PREFIX, embedded_dir, expand, read_documents
from ngscale.errors import InputError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HfTokenizer

MAX_VOCAB_SIZE = 2**24
"""Sixty times the largest published vocabulary; a larger id is a broken tokenizer file."""
DEFAULT_TOKENIZER = "bpe-32768"
BIN_DTYPES = ("uint16", "uint32")
_BATCH_CHARS = 2**22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenStream:
    """Token ids of a corpus. Documents keep their boundaries: no n-gram crosses one."""

    tokens: UInt32[np.ndarray, " T"]
    doc_starts: Int64[np.ndarray, " num_docs_plus_1"]
    """Index of each document's first token, and T at the end."""
    vocab_size: int
    """V0: all ids are below it."""
    num_bytes: int
    """UTF-8 bytes of the text; 0 where the corpus came as token ids."""

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
        digest = hashlib.sha256(self.tokens.astype("<u4").tobytes())
        digest.update(self.doc_starts.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokenizer:
    """A tokenizer.json with its V0 and the hash of its file."""

    name: str
    sha256: str
    vocab_size: int
    """V0 = max(vocab_size of a config.json beside it, largest id + 1)."""
    backend: "HfTokenizer"

    def encode(self, documents: Iterable[str]) -> Iterator[list[int]]:
        """Ids of each document, without special tokens."""
        for batch in _batches(documents):
            for encoding in self.backend.encode_batch_fast(batch, add_special_tokens=False):
                yield encoding.ids


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def load_tokenizer(name: str) -> Tokenizer:
    """An embedded tokenizer by name, a tokenizer.json, or a directory that holds one.

    Raises:
        InputError: there is none, it is not one, or an id exceeds ``MAX_VOCAB_SIZE``.
    """
    path = _tokenizer_path(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    backend = _parse_tokenizer(path, data)
    ids = backend.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise InputError(f"{path}: the tokenizer has no ids")
    vocab_size = max(max(ids) + 1, _config_vocab_size(path.parent / "config.json"))
    if vocab_size > MAX_VOCAB_SIZE:
        raise InputError(f"{path}: id {vocab_size - 1} is beyond the cap of {MAX_VOCAB_SIZE} ids")
    short_name = path.parent.name if path.name == "tokenizer.json" else path.name
    return Tokenizer(
        name=short_name,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=vocab_size,
        backend=backend,
    )


def _tokenizer_path(name: str) -> Path:
    embedded = embedded_dir() / "tokenizers" / name / "tokenizer.json"
    if Path(name).name == name and embedded.is_file():
        return embedded
    path = Path(name)
    if path.is_dir():
        path /= "tokenizer.json"
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in (embedded_dir() / "tokenizers").iterdir()))
        raise InputError(f"{name}: no tokenizer.json there; embedded tokenizers: {known}")
    return path


def _parse_tokenizer(path: Path, data: bytes) -> "HfTokenizer":
    from tokenizers import Tokenizer as HfTokenizer

    try:
        return HfTokenizer.from_buffer(data)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in the Rust library is not an Exception
        raise InputError(f"{path}: is not a tokenizer.json: {error}") from error


def _config_vocab_size(path: Path) -> int:
    """``vocab_size`` of a config.json beside the tokenizer; 0 where there is none."""
    if not path.is_file():
        return 0
    try:
        value = json.loads(path.read_bytes()).get("vocab_size", 0)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: is not a config.json: {error}") from error
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{path}: vocab_size: must be a whole number, got {json.dumps(value)}")
    return value


def read_stream(
    sources: Sequence[str],
    tokenizer: Tokenizer,
    *,
    text_field: str = "text",
    split: str = "train",
) -> TokenStream:
    """Encode every document of the sources.

    Raises:
        InputError: a source is unreadable, or there is no text in any.
    """
    num_bytes = 0

    def counted() -> Iterator[str]:
        nonlocal num_bytes
        for document in read_documents(sources, text_field=text_field, split=split):
            num_bytes += len(document.encode("utf-8", "surrogatepass"))
            yield document

    encoded = [np.array(ids, dtype=np.uint32) for ids in tokenizer.encode(counted()) if ids]
    if not encoded:
        raise InputError(f"{', '.join(sources)}: the corpus is empty; it has no token")
    return TokenStream(
        tokens=np.concatenate(encoded),
        doc_starts=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        vocab_size=tokenizer.vocab_size,
        num_bytes=num_bytes,
    )


def read_bin(sources: Sequence[str], *, dtype: str, vocab_size: int) -> TokenStream:
    """nanoGPT-style files of raw little-endian ids; each file is one document.

    Raises:
        InputError: a file's length does not fit ``dtype``, or an id is not below ``vocab_size``.
    """
    if dtype not in BIN_DTYPES:
        raise UsageError(f"--dtype {dtype}: takes {' or '.join(BIN_DTYPES)}")
    width = np.dtype(dtype).itemsize
    parts: list[UInt32[np.ndarray, " T"]] = []
    for path in chain.from_iterable(expand(source) for source in sources):
        data = path.read_bytes()
        if len(data) % width:
            raise InputError(f"{path}: {len(data)} bytes is no whole number of {dtype} ids")
        ids = np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<")).astype(np.uint32)
        if len(ids) and int(ids.max()) >= vocab_size:
            raise InputError(
                f"{path}: id {ids.max()} at index {int(ids.argmax())} is not below "
                f"--vocab-size {vocab_size}"
            )
        parts.append(ids)
    parts = [ids for ids in parts if len(ids)]
    if not parts:
        raise InputError(f"{', '.join(sources)}: the corpus is empty; it has no token")
    return TokenStream(
        tokens=np.concatenate(parts),
        doc_starts=np.cumsum([0, *map(len, parts)], dtype=np.int64),
        vocab_size=vocab_size,
        num_bytes=0,
    )


def is_bin(sources: Sequence[str]) -> bool:
    """Whether the sources are files of token ids.

    Raises:
        UsageError: some are and some are not.
    """
    kinds = {
        not source.startswith(HUB_PREFIX) and all(p.suffix == ".bin" for p in expand(source))
        for source in sources
    }
    if len(kinds) > 1:
        raise UsageError("--corpus mixes .bin files of token ids with text; use one kind")
    return kinds == {True}
