"""Where text comes from: sources named on the command line -> documents, in bounded memory.

A .txt file is one document; a line of .jsonl and a row of .parquet are one each; all three may be
compressed (.gz, .zst). ``hf://name`` streams a data set through the ``datasets`` library (a hub id,
or a local directory of data files). A name that is no path is a corpus ``ngscale corpora build``
made.

Text is UTF-8. A byte order mark at the very start of a .txt or .jsonl file is dropped, anywhere
else it is text, as NUL is. A record that is not UTF-8, not JSON or has no text is bad: an error,
skipped, or mended (bytes become U+FFFD; what has no text at all is skipped). A damaged archive, a
missing column or an unreadable file is an error always.
"""

import codecs
import glob
import io
import json
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from ngscale import artefacts, hub
from ngscale.artefacts import embedded_dir as embedded_dir
from ngscale.errors import InputError, UsageError
from ngscale.hub import HubDataset

OnBadRecord = Literal["error", "skip", "replace"]
KINDS = (".txt", ".jsonl", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_BLOCK_BYTES = 2**20
_BATCH_ROWS = 256
_WAY_OUT = "mend the file, or --on-bad-record skip or replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A document, or a part of a long one."""

    text: str
    ends: bool = True
    """Whether the document ends here."""


def _ignore(steps: int, /) -> None:
    """The progress of a caller who does not ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read, and what is told while reading."""

    text_field: str = "text"
    split: str = "train"
    on_bad_record: OnBadRecord = "error"
    advance: Callable[[int], None] = _ignore
    """Called with the bytes of the source files read since the last call."""
    bad: Counter[str] = field(default_factory=Counter)
    """Records ``skipped`` and ``replaced`` so far."""
    resolved: dict[str, HubDataset] = field(default_factory=dict)
    """Data sets of the hub by source, see ``dataset``."""
    block_bytes: int = _BLOCK_BYTES
    """How much is read at a time; results do not depend on it."""

    def __post_init__(self) -> None:
        if self.on_bad_record not in get_args(OnBadRecord):
            known = ", ".join(get_args(OnBadRecord))
            raise UsageError(f"--on-bad-record {self.on_bad_record}: takes {known}")

    def dataset(self, source: str) -> HubDataset:
        """The data set ``hf://name``, resolved once: what is asked twice has one revision.

        Raises:
            InputError: it is not there.
            NetworkError: the hub cannot be reached.
        """
        if source not in self.resolved:
            self.resolved[source] = hub.resolve(source)
        return self.resolved[source]

    def refuse(self, message: str) -> None:
        """Count a bad record as skipped.

        Raises:
            InputError: bad records are errors.
        """
        if self.on_bad_record == "error":
            raise InputError(f"{message}; mend the file, or use --on-bad-record skip or replace")
        self.bad["skipped"] += 1

    def text(self, data: bytes, offset: int = 0) -> tuple[str, bool]:
        """A record's text, and whether bytes had to be replaced.

        Raises:
            _BadRecordError: it is not UTF-8 and not to be mended.
        """
        try:
            return data.decode("utf-8"), False
        except UnicodeDecodeError as error:
            if self.on_bad_record == "replace":
                return data.decode("utf-8", "replace"), True
            raise _BadRecordError(f"byte {offset + error.start} is not UTF-8") from error


class _BadRecordError(Exception):
    """Why one record cannot be read."""


def default_sources() -> list[str]:
    """The embedded default: *Emma* and *Pride and Prejudice*, public domain."""
    return [str(path) for path in sorted((embedded_dir() / "default").glob("*.txt"))]


def split_suffix(path: Path) -> tuple[str, str | None]:
    """Kind and compression a file name tells: ``a.jsonl.gz`` -> (".jsonl", "gzip")."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    inner = path.with_suffix("") if compression else path
    return inner.suffix.lower(), compression


def expand(source: str) -> list[Path]:
    """The files a path, directory, glob or built corpus names, sorted.

    Raises:
        InputError: nothing is there, or a directory holds nothing readable.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _files_below(path)
        if path.exists():
            return [path]
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from error
    if artefact := artefacts.find(source, "corpus"):
        if not artefact.is_built:
            raise InputError(f"{source}: not built yet; run: ngscale corpora build {source}")
        return _files_below(artefact.built_dir)
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207
    if not found:
        raise InputError(f"{source}: no such file; --corpus takes a file, directory, glob or hf://")
    return found


def _files_below(root: Path) -> list[Path]:
    """Readable kinds of file below a directory; hidden ones and unfinished builds are left out."""

    def wanted(path: Path) -> bool:
        hidden = any(name.startswith(".") for name in path.relative_to(root).parts)
        return not hidden and split_suffix(path)[0] in (*KINDS, ".bin") and path.is_file()

    if not (found := sorted(filter(wanted, root.rglob("*")))):
        raise InputError(f"{root}: the directory has no {', '.join(KINDS)} file")
    return found


def source_files(sources: Sequence[str]) -> list[Path]:
    """The local files of all sources in order; those of the hub are not among them.

    Raises:
        InputError: a source names nothing, or something that is no regular file.
    """
    local = (source for source in sources if not source.startswith(hub.PREFIX))
    files = [path for source in local for path in expand(source)]
    for path in files:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise InputError(f"{path}: is not a regular file; --corpus takes files on disk")
    return files


def read_parts(sources: Sequence[str], reading: Reading) -> Iterator[Part]:
    """The documents of all sources in order; a long .txt comes in several parts.

    Raises:
        InputError: a file is unreadable, damaged, of an unknown kind, lacks ``text_field`` or has
            a bad record that is not to be skipped or mended.
        NetworkError: a hub data set cannot be reached.
    """
    for source in sources:
        if source.startswith(hub.PREFIX):
            yield from _read_hub(source, reading)
            continue
        for path in source_files([source]):
            try:
                yield from _read_file(path, reading)
            except OSError as error:  # also what Arrow raises for a truncated archive
                raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_file(path: Path, reading: Reading) -> Iterator[Part]:
    kind, compression = split_suffix(path)
    if kind == ".parquet":
        yield from _read_parquet(path, compression, reading)
    elif kind in (".txt", ".jsonl"):
        read = _read_text if kind == ".txt" else _read_jsonl
        yield from read(path, compression, reading)
    else:
        raise InputError(
            f"{path}: not a corpus; known kinds: {', '.join(KINDS)}, each also "
            f"{' or '.join(COMPRESSIONS)}, and .bin"
        )


@contextmanager
def _opened(
    path: Path, compression: str | None, reading: Reading
) -> Iterator[tuple[io.BufferedReader, Callable[[], None]]]:
    """The decompressed bytes of a file, and what to call for progress after each piece of them."""
    import pyarrow

    with pyarrow.OSFile(os.fsencode(path)) as raw:
        if compression and raw.size() == 0:
            raise InputError(f"{path}: cannot be read: an empty file is no {compression} archive")
        stream = pyarrow.CompressedInputStream(raw, compression) if compression else raw
        told = 0

        def tell() -> None:
            nonlocal told
            at = raw.tell()
            if at != told:
                reading.advance(at - told)
                told = at

        yield io.BufferedReader(stream, max(reading.block_bytes, 1)), tell


def _read_text(path: Path, compression: str | None, reading: Reading) -> Iterator[Part]:
    """One document, in parts of a block each, so that it need not fit in memory."""
    policy = reading.on_bad_record
    if policy != "error" and (first := _first_bad_byte(path, compression)) is not None:
        if policy == "skip":
            reading.refuse(f"{path}: byte {first}")
            return
        reading.bad["replaced"] += 1
    with _opened(path, compression, reading) as (stream, tell):
        held = ""
        try:
            for text in _decoded(stream, reading.block_bytes, mend=policy == "replace"):
                if held:
                    yield Part(text=held, ends=False)
                held = text
                tell()
        except _BadRecordError as error:
            reading.refuse(f"{path}: {error}")
        yield Part(text=held)


def _first_bad_byte(path: Path, compression: str | None) -> int | None:
    with _opened(path, compression, Reading()) as (stream, _):
        try:
            for _ in _decoded(stream, _BLOCK_BYTES, mend=False):
                pass
        except _BadByteError as error:
            return error.offset
    return None


class _BadByteError(_BadRecordError):
    def __init__(self, offset: int, start: bytes) -> None:
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        super().__init__(f"byte {offset} is not UTF-8{' (is it UTF-16?)' if wide else ''}")
        self.offset = offset


def _decoded(stream: io.BufferedReader, block_bytes: int, *, mend: bool) -> Iterator[str]:
    """UTF-8 decoded block by block, each block's text not empty, a leading mark dropped.

    Raises:
        _BadByteError: says where in the stream, whatever the block size.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace" if mend else "strict")
    num_read, is_first = 0, True
    while True:
        block = stream.read(max(block_bytes, len(codecs.BOM_UTF16)))
        num_pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            start = block if num_read == 0 else b""
            raise _BadByteError(num_read - num_pending + error.start, start) from error
        num_read += len(block)
        if is_first and text:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text
        if not block:
            return


def _read_jsonl(path: Path, compression: str | None, reading: Reading) -> Iterator[Part]:
    with _opened(path, compression, reading) as (stream, tell):
        offset = 0
        for number, line in enumerate(stream, start=1):
            start = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
            try:
                found = _json_text(line[start:], number, offset + start, reading)
            except _BadRecordError as error:
                reading.refuse(f"{path}: {error}")
                found = None
            if found is not None:
                text, is_mended = found
                reading.bad["replaced"] += is_mended
                yield Part(text=text)
            offset += len(line)
            tell()


def _json_text(line: bytes, number: int, offset: int, reading: Reading) -> tuple[str, bool] | None:
    """The text of one line and whether it was mended; None for a blank line.

    Raises:
        _BadRecordError: the line is not JSON, or has no text under the key.
    """
    if not line.strip():
        return None
    source, is_mended = reading.text(line, offset)
    try:
        record = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise _BadRecordError(f"line {number} is not JSON: {error}") from error
    text = record.get(reading.text_field) if isinstance(record, dict) else None
    if not isinstance(text, str):
        key = reading.text_field
        raise _BadRecordError(f"line {number} has no text in {key!r}; --text-field names the key")
    if "\\u" in source and not _is_encodable(text):
        if reading.on_bad_record != "replace":
            raise _BadRecordError(f"line {number} has half a surrogate pair, which is no text")
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        is_mended = True
    return text, is_mended


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(path: Path, compression: str | None, reading: Reading) -> Iterator[Part]:
    import pyarrow

    try:
        if compression is None:
            yield from _parquet_rows(path, str(path), reading)
            return
        with (
            _opened(path, compression, Reading()) as (stream, _),
            tempfile.TemporaryFile() as unpacked,  # parquet is read from its end
        ):
            shutil.copyfileobj(stream, unpacked, _BLOCK_BYTES)
            yield from _parquet_rows(path, unpacked, reading)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from error


def _parquet_rows(path: Path, source: str | IO[bytes], reading: Reading) -> Iterator[Part]:
    """The rows in small batches: neither the file nor a row group is ever in memory whole."""
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source, buffer_size=_BLOCK_BYTES, pre_buffer=False)
    _check_column(path, file.schema_arrow, reading.text_field)
    size, num_rows, told, number = path.stat().st_size, file.metadata.num_rows, 0, 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[reading.text_field]):
        for value in _as_bytes(batch.column(0)):
            number += 1
            try:
                if value is None:
                    raise _BadRecordError(f"is null in column {reading.text_field!r}")
                text, is_mended = reading.text(value)
            except _BadRecordError as error:
                reading.refuse(f"{path}: row {number}: {error}")
                continue
            reading.bad["replaced"] += is_mended
            yield Part(text=text)
        reached = size * number // num_rows
        reading.advance(reached - told)
        told = reached


def _check_column(path: Path, schema: Any, name: str) -> None:
    import pyarrow

    if name not in schema.names:
        names = ", ".join(schema.names)
        raise InputError(f"{path}: no column {name!r}; --text-field takes one of {names}")
    kind = schema.field(name).type
    inner = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if not (pyarrow.types.is_string(inner) or pyarrow.types.is_large_string(inner)):
        raise InputError(f"{path}: column {name!r} holds {kind}, not text")


def _as_bytes(column: Any) -> list[bytes | None]:
    """A string column's values undecoded: Arrow does not check that they are UTF-8."""
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    wide = pyarrow.types.is_large_string(column.type)
    return list(column.cast(pyarrow.large_binary() if wide else pyarrow.binary()).to_pylist())


def _read_hub(source: str, reading: Reading) -> Iterator[Part]:
    for number, row in enumerate(reading.dataset(source).rows(reading.split), start=1):
        if reading.text_field not in row:
            fields = ", ".join(row)
            raise InputError(
                f"{source}: no text in {reading.text_field!r}; --text-field takes one of {fields}"
            )
        text = row[reading.text_field]
        if isinstance(text, str):
            yield Part(text=text)
        else:
            reading.refuse(f"{source}: row {number} has no text in {reading.text_field!r}")
