"""An NgramTable as a Parquet file: columns ``t0`` (the newest token), ``t1``, ... and ``count``.

The same table and source give the same bytes with the same pyarrow. What the table was counted
in stands in the file's metadata under ``ngscale.ngrams``.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngscale.errors import InputError
from ngscale.ngrams import MAX_ORDER, NgramTable
from ngscale.tokens import TokenStream
from ngscale.whole_files import replacing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_KEY = b"ngscale.ngrams"
_FORMAT = 1
_ROW_GROUP = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramSource:
    """What an n-gram table was counted in."""

    stream_sha256: str
    vocab_size: int
    """V0."""
    num_docs: int
    cross_documents: bool

    @classmethod
    def of(cls, stream: TokenStream, *, cross_documents: bool = False) -> "NgramSource":
        """The source that ``stream`` is; hashes it."""
        return cls(
            stream_sha256=stream.sha256(),
            vocab_size=stream.vocab_size,
            num_docs=stream.num_docs,
            cross_documents=cross_documents,
        )


def write_parquet(table: NgramTable, path: Path, source: NgramSource) -> None:
    """Write the table whole or not at all, a row group at a time.

    Raises:
        ResourceError: the disk is full.
        InputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {
        "format": _FORMAT,
        "order": table.order,
        "distinct": table.distinct,
        "occurrences": table.occurrences,
        **asdict(source),
    }
    schema = _schema(table.order).with_metadata({_KEY: json.dumps(facts).encode()})
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=False, write_page_checksum=True
        ) as writer,
    ):
        for start in range(0, table.distinct, _ROW_GROUP):
            rows = slice(start, start + _ROW_GROUP)
            columns = [*table.tokens[:, rows], table.counts[rows]]
            arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), _ROW_GROUP)


def read_parquet(path: Path) -> tuple[NgramTable, NgramSource]:
    """The table that ``write_parquet`` wrote, checked: order, ids, counts and totals.

    Raises:
        InputError: it is no Parquet file, not whole, or no table of n-grams.
    """
    import pyarrow.parquet as pq

    with (
        _one_line(path),
        path.open("rb") as opened,
        pq.ParquetFile(opened, page_checksum_verification=True) as file,
    ):
        facts = _facts(path, file)
        order, distinct = facts["order"], facts["distinct"]
        if not file.schema_arrow.equals(_schema(order)) or file.metadata.num_rows != distinct:
            raise InputError(
                f"{path}: must have {distinct} rows of uint32 columns t0..t{order - 1} and int64 "
                f"count, has {file.metadata.num_rows} of {', '.join(file.schema_arrow.names)}"
            )
        tokens = np.empty((order, distinct), np.uint32)
        counts = np.empty(distinct, np.int64)
        at = 0
        for group in range(file.num_row_groups):
            block = file.read_row_group(group)
            for row in range(order):
                tokens[row, at : at + len(block)] = block[f"t{row}"].to_numpy()
            counts[at : at + len(block)] = block["count"].to_numpy()
            at += len(block)
    table = NgramTable(order=order, tokens=tokens, counts=counts)
    source = NgramSource(**{name: facts[name] for name in NgramSource.__dataclass_fields__})
    _check(path, table, source, facts["occurrences"])
    return table, source


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is no whole Parquet file: {reason}") from error


def _schema(order: int) -> "pa.Schema":
    import pyarrow as pa

    tokens = [pa.field(f"t{back}", pa.uint32(), nullable=False) for back in range(order)]
    return pa.schema([*tokens, pa.field("count", pa.int64(), nullable=False)])


def _facts(path: Path, file: "pq.ParquetFile") -> dict[str, Any]:
    """The metadata, its types checked.

    Raises:
        InputError: there is none, or a key is missing or wrong.
    """
    data = (file.schema_arrow.metadata or {}).get(_KEY)
    if data is None:
        raise InputError(f"{path}: is no n-gram table: its metadata lacks {_KEY.decode()!r}")
    try:
        facts: Any = json.loads(data)
    except ValueError as error:
        raise InputError(f"{path}: metadata {_KEY.decode()!r} is no JSON: {error}") from error
    types = {
        "format": int,
        "order": int,
        "distinct": int,
        "occurrences": int,
        "stream_sha256": str,
        "vocab_size": int,
        "num_docs": int,
        "cross_documents": bool,
    }
    for key, kind in types.items():
        if not isinstance(facts, dict) or type(facts.get(key)) is not kind:
            raise InputError(f"{path}: metadata {key!r} must be of type {kind.__name__}")
    if facts["format"] != _FORMAT:
        raise InputError(f"{path}: format {facts['format']}, this version reads {_FORMAT}")
    if not 1 <= facts["order"] <= MAX_ORDER:
        raise InputError(f"{path}: order {facts['order']} is not in 1..{MAX_ORDER}")
    return dict(facts)


def _check(path: Path, table: NgramTable, source: NgramSource, occurrences: int) -> None:
    for start in range(0, table.distinct, _ROW_GROUP):
        block = table.tokens[:, max(start - 1, 0) : start + _ROW_GROUP]
        if int(block.max()) >= source.vocab_size:
            raise InputError(
                f"{path}: token {block.max()} is not below vocab_size {source.vocab_size}"
            )
        ascends = np.zeros(block.shape[1] - 1, np.bool_)
        ties = ~ascends
        for row in block[::-1]:
            ascends |= ties & (row[:-1] < row[1:])
            ties &= row[:-1] == row[1:]
        if not ascends.all():
            raise InputError(
                f"{path}: n-grams must ascend, oldest token first; row "
                f"{max(start - 1, 0) + int(ascends.argmin()) + 1} does not"
            )
    if table.distinct and int(table.counts.min()) < 1:
        raise InputError(f"{path}: count {table.counts.min()} is below 1")
    if table.occurrences != occurrences:
        raise InputError(
            f"{path}: counts sum to {table.occurrences}, the metadata says {occurrences}"
        )
