"""The n-gram tables of a checkpoint on disk: which tensor, which rows, read by range.

Four layouts (the first three are those of released checkpoints, the last is ngscale's own):

- ``ngram_embeddings.embedders.{i}.weight``, ``..post_projs.{i}.weight`` (LongCat-Flash-Lite, Next)
- ``oe_embed_tokens{i}.weight``, ``oe_embed_proj{i}.weight`` (LongCat-2.0, Lite-Sparse)
- ``layers.{l}.ple.ple_embedding.ngram_embedding[.shard_{s}].weight``, ``..ple.value_proj.weight``
  (Qwen3.8): the tables of a layer one below the other, cut anywhere
- ``embed_tokens.tables.weight``, ``embed_tokens.projection.weight``, and the same within a layer as
  ``layers.{l}.ngram.tables.weight``, ``..value_proj.weight``

A table may be stored with more rows than its modulus (padding); only those that can be read count.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from ngscale.config_reader import read_config
from ngscale.errors import InputError
from ngscale.ngram_config import DECODER_MODEL_TYPE, specs_of
from ngscale.safetensors_header import TensorHeader, inside, not_finite, read_headers
from ngscale.spec import NgramSpec

CHUNK_BYTES = 8 * 2**20
"""Read at a time, as float32."""
PAGE_BYTES = 4096
"""Rows no further apart are read with what lies between: the disk reads no less."""
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_SEPARATE = (
    (r"ngram_embeddings\.embedders\.(\d+)\.weight$", r"ngram_embeddings\.post_projs\.{}\.weight$"),
    (r"oe_embed_tokens(\d+)\.weight$", r"oe_embed_proj{}\.weight$"),
)
_STACKED = (
    (
        r"layers\.{layer}\.ple\.ple_embedding\.ngram_embedding\.(?:shard_(\d+)\.)?weight$",
        r"layers\.{layer}\.ple\.value_proj\.weight$",
    ),
    (r"layers\.{layer}\.ngram\.tables\.()weight$", r"layers\.{layer}\.ngram\.value_proj\.weight$"),
    (r"embed_tokens\.tables\.()weight$", r"embed_tokens\.projection\.weight$"),
)
_WORDS = (
    r"ngram_embeddings\.word_embeddings\.weight$",
    r"(?<!mtp\.)embed_tokens(\.word_embeddings)?\.weight$",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of a two-dimensional tensor on disk."""

    tensor: TensorHeader
    first: int
    number: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredTable:
    """One table, and the columns of the projection that read it."""

    name: str
    """``table 0``, or ``layer 1, table 0`` where layers have their own."""
    spec: NgramSpec
    number: int
    """Index i in ``spec``."""
    parts: tuple[Rows, ...]
    width: int
    dtype: str
    projection: Float32[np.ndarray, "D d"] | None
    """P_i; None where nothing projects it alone."""

    @property
    def order(self) -> int:
        """Of its n-grams."""
        return self.spec.table_orders[self.number]

    @property
    def num_rows(self) -> int:
        """Rows that an id can reach: those of its modulus, and a reserved one."""
        return self.spec.readable_rows(self.number)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredTables:
    """All tables of a checkpoint, and its word embedding."""

    directory: Path
    is_own: bool
    """Whether the model is ngscale's own decoder."""
    specs: tuple[NgramSpec, ...]
    tables: tuple[StoredTable, ...]
    words: Rows
    initializer_range: float | None
    """Of config.json: standard deviation of new weights, where it says."""


def find_tables(directory: Path) -> StoredTables:
    """The tables that config.json promises, each found whole in the headers; no weight is read
    but the projections.

    Raises:
        InputError: config.json or the weights are malformed, a table is missing, or has too few
            rows; names the tensor.
        UnsafeInputError: a name leads out of the directory, or the weights are pickled.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; probe takes a checkpoint's directory")
    reader = read_config(inside(directory, "config.json"))
    specs = specs_of(reader)
    headers = read_headers(directory)
    tables: list[StoredTable] = []
    for spec in specs:
        layers: Sequence[int | None] = spec.layers or (None,)
        for layer in layers:
            tables += _tables_of(directory, headers, spec, layer)
    words = [h for pattern in _WORDS for n, h in headers.items() if re.search(pattern, n)]
    if not words:
        raise InputError(f"{directory}: has no embed_tokens.weight; there is no word embedding")
    std = reader.values.get("initializer_range")
    return StoredTables(
        directory=directory,
        is_own=reader.values.get("model_type") == DECODER_MODEL_TYPE,
        specs=specs,
        tables=tuple(tables),
        words=Rows(tensor=_matrix(directory, words[0]), first=0, number=words[0].shape[0]),
        initializer_range=float(std) if isinstance(std, int | float) and std > 0 else None,
    )


def _tables_of(
    directory: Path, headers: Mapping[str, TensorHeader], spec: NgramSpec, layer: int | None
) -> list[StoredTable]:
    names = [
        ("" if layer is None else f"layer {layer}, ") + f"table {i}" for i in range(spec.num_tables)
    ]
    if layer is None:
        for tables, projections in _SEPARATE:
            if found := _numbered(headers, tables):
                return [
                    _separate(directory, headers, spec, i, names[i], found, projections)
                    for i in range(spec.num_tables)
                ]
    for tables, projection in _STACKED:
        if found := _numbered(headers, tables.replace("{layer}", str(layer))):
            shards = [_matrix(directory, found[s]) for s in sorted(found)]
            reads = _first(headers, projection.replace("{layer}", str(layer)))
            return _stacked(directory, spec, names, shards, reads)
    where = "" if layer is None else f" in layer {layer}"
    raise InputError(
        f"{directory}: no n-gram tables{where} among the weights; known are embedders.N and "
        "oe_embed_tokensN (LongCat), ple_embedding.ngram_embedding (Qwen3.8), and ngscale's tables"
    )


def _numbered(headers: Mapping[str, TensorHeader], pattern: str) -> dict[int, TensorHeader]:
    found = {}
    for name, header in headers.items():
        if match := re.search(pattern, name):
            found[int(match[1] or 0)] = header
    return found


def _first(headers: Mapping[str, TensorHeader], pattern: str) -> TensorHeader | None:
    return next((h for name, h in headers.items() if re.search(pattern, name)), None)


def _matrix(directory: Path, tensor: TensorHeader) -> TensorHeader:
    """``tensor``, which must be of floats and two-dimensional."""
    if tensor.dtype not in _DTYPES or len(tensor.shape) != 2:
        raise InputError(
            f"{directory / tensor.file}: {tensor.name}: is {tensor.dtype} of shape "
            f"{list(tensor.shape)}; tables are read as {', '.join(_DTYPES)} with two dimensions"
        )
    return tensor


def _separate(
    directory: Path,
    headers: Mapping[str, TensorHeader],
    spec: NgramSpec,
    number: int,
    name: str,
    found: Mapping[int, TensorHeader],
    projections: str,
) -> StoredTable:
    rows = spec.readable_rows(number)
    if number not in found:
        raise InputError(
            f"{directory}: table {number} of {spec.num_tables} is not among the weights"
        )
    tensor = _matrix(directory, found[number])
    if tensor.shape[0] < rows:
        raise InputError(
            f"{directory / tensor.file}: {tensor.name}: has {tensor.shape[0]:,} rows, config.json "
            f"needs {rows:,}"
        )
    width = tensor.shape[1]
    projection = None
    if reads := _first(headers, projections.format(number)):
        projection = read_matrix(directory, _matrix(directory, reads))
        if projection.shape[1] != width and projection.shape[0] == width:
            projection = projection.T  # TokenSpeed also takes [d, D]
        if projection.shape[1] != width:
            raise InputError(
                f"{directory / reads.file}: {reads.name}: has shape {list(reads.shape)}, the table "
                f"has {width} columns"
            )
    return StoredTable(
        name=name,
        spec=spec,
        number=number,
        parts=(Rows(tensor=tensor, first=0, number=rows),),
        width=width,
        dtype=tensor.dtype,
        projection=projection,
    )


def _stacked(
    directory: Path,
    spec: NgramSpec,
    names: Sequence[str],
    shards: Sequence[TensorHeader],
    reads: TensorHeader | None,
) -> list[StoredTable]:
    width, stored = shards[0].shape[1], sum(shard.shape[0] for shard in shards)
    starts = spec.table_starts
    readable = [spec.readable_rows(i) for i in range(spec.num_tables)]
    if starts[-1] + readable[-1] > stored:
        raise InputError(
            f"{directory / shards[0].file}: {shards[0].name}: the tables have {stored:,} rows, "
            f"config.json needs {starts[-1] + readable[-1]:,}; a shard may be missing"
        )
    joint = None if reads is None else read_matrix(directory, _matrix(directory, reads))
    if joint is not None and joint.shape[1] < width * spec.num_tables:
        joint = None
    firsts = [0, *itertools.accumulate(shard.shape[0] for shard in shards)]
    tables = []
    for i, (start, rows) in enumerate(zip(starts, readable, strict=True)):
        parts = []
        for shard, first in zip(shards, firsts, strict=False):
            low, high = max(start, first), min(start + rows, first + shard.shape[0])
            if low < high:
                parts.append(Rows(tensor=shard, first=low - first, number=high - low))
        # Columns of the word embedding come first where it is fused by concatenation.
        column = 0 if joint is None else joint.shape[1] - (spec.num_tables - i) * width
        tables.append(
            StoredTable(
                name=names[i],
                spec=spec,
                number=i,
                parts=tuple(parts),
                width=width,
                dtype=shards[0].dtype,
                projection=None if joint is None else joint[:, column : column + width],
            )
        )
    return tables


def read_matrix(directory: Path, tensor: TensorHeader) -> Float32[np.ndarray, "R d"]:
    """A whole tensor."""
    rows = Rows(tensor=tensor, first=0, number=tensor.shape[0])
    return np.concatenate([chunk for chunk, _ in read_rows(directory, (rows,))])


def read_rows(
    directory: Path, parts: Sequence[Rows]
) -> Iterator[tuple[Float32[np.ndarray, "R d"], np.ndarray]]:
    """The rows in order, some at a time: as float32, and as they are stored.

    Raises:
        InputError: a file ends too early, or a number is not finite.
    """
    for part in parts:
        tensor = part.tensor
        dtype = np.dtype(_DTYPES[tensor.dtype])
        width = tensor.shape[1]
        step = max(1, CHUNK_BYTES // (4 * width))
        path = inside(directory, tensor.file)
        with path.open("rb") as file:
            file.seek(tensor.begin + part.first * width * dtype.itemsize)
            for start in range(0, part.number, step):
                number = min(step, part.number - start)
                data = file.read(number * width * dtype.itemsize)
                if len(data) < number * width * dtype.itemsize:
                    raise InputError(f"{path}: {tensor.name}: is truncated")
                stored = np.frombuffer(data, dtype=dtype).reshape(number, width)
                found = _float32(stored, tensor.dtype)
                _check_finite(found, path, tensor, part.first + start)
                yield found, stored


def _float32(stored: np.ndarray, dtype: str) -> Float32[np.ndarray, "R d"]:
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what F64 holds beyond float32 is refused as infinite
        return stored.astype(np.float32)


def _check_finite(
    rows: Float32[np.ndarray, "R d"],
    path: Path,
    tensor: TensorHeader,
    numbers: int | Int64[np.ndarray, " R"],
) -> None:
    """Refuse what no table holds; ``numbers`` are those of ``rows`` in ``tensor``, or the first."""
    with np.errstate(invalid="ignore"):  # of infinities of both signs
        total = rows.sum(dtype=np.float64)  # which no sum of finite float32 overflows
    if np.isfinite(total):
        return
    row, column = (int(i) for i in np.argwhere(~np.isfinite(rows))[0])
    number = numbers + row if isinstance(numbers, int) else int(numbers[row])
    raise not_finite(str(path), tensor.name, [number, column], float(rows[row, column]))


def gather_rows(
    directory: Path, parts: Sequence[Rows], ids: Int64[np.ndarray, " R"]
) -> Float32[np.ndarray, "R d"]:
    """The rows ``ids`` of a table of ``parts``, in any order; neighbours are read as one range.

    Raises:
        InputError: a file ends too early, or a number is not finite.
    """
    distinct, inverse = np.unique(ids, return_inverse=True)
    found = np.empty((len(distinct), parts[0].tensor.shape[1]), dtype=np.float32)
    first = 0
    for part in parts:
        low, high = np.searchsorted(distinct, [first, first + part.number])
        found[low:high] = _gather(directory, part, distinct[low:high] - first)
        first += part.number
    return found[inverse]


def _gather(
    directory: Path, part: Rows, ids: Int64[np.ndarray, " R"]
) -> Float32[np.ndarray, "R d"]:
    """Rows of one part, in ascending order."""
    tensor = part.tensor
    dtype = np.dtype(_DTYPES[tensor.dtype])
    row_bytes = tensor.shape[1] * dtype.itemsize
    found = np.empty((len(ids), tensor.shape[1]), dtype=np.float32)
    path = inside(directory, tensor.file)
    with path.open("rb", buffering=0) as file:
        for low, high in _runs(ids, row_bytes):
            start, stop = int(ids[low]), int(ids[high - 1]) + 1
            file.seek(tensor.begin + (part.first + start) * row_bytes)
            data = file.read((stop - start) * row_bytes)
            if len(data) < (stop - start) * row_bytes:
                raise InputError(f"{path}: {tensor.name}: is truncated")
            stored = np.frombuffer(data, dtype=dtype).reshape(stop - start, -1)
            found[low:high] = _float32(stored[ids[low:high] - start], tensor.dtype)
    _check_finite(found, path, tensor, ids + part.first)
    return found


def _runs(ids: Int64[np.ndarray, " R"], row_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges of ``ids``, ascending, that lie within a page of one another and fit a chunk."""
    low = 0
    for index in range(1, len(ids) + 1):
        if (
            index == len(ids)
            or (ids[index] - ids[index - 1] - 1) * row_bytes > PAGE_BYTES
            or (ids[index] + 1 - ids[low]) * row_bytes > CHUNK_BYTES
        ):
            yield low, index
            low = index
