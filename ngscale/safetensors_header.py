"""Names, types, shapes and places of the tensors of safetensors files, from their headers alone.

The format: 8 bytes, little-endian, the length of a header; the header, a JSON object of
``name -> {"dtype", "shape", "data_offsets"}`` with optional strings under ``__metadata__``; the
data, which the tensors cover in order, without a gap (safetensors' README, "Format"). Every rule
is checked, and nothing outside the checkpoint's directory is opened. Standard library only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ngscale.config_reader import parse_config, shown
from ngscale.errors import InputError, UnsafeInputError

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
MAX_HEADER_BYTES = 8 * 2**20
"""The format allows 100 MB; this is room for 60,000 tensors in one file."""
_MAX_INDEX_BYTES = 32 * 2**20
_FREE_BYTES = 2**20
_DATA_PER_BYTE = 16
"""A header or index above the first size must have as many times its data: parsed, it takes about
as many times its own size in memory."""
_MAX_FILES = 4096
"""That an index may name."""
_MAX_SIZE = 2**40 - 1
"""Of a dimension: only a tensor without data can claim more."""
_MAX_DIMENSIONS = 64
_MAX_OFFSET = 2**63 - 1
_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}
_FORBIDDEN_IN_NAMES = frozenset("/\\:%")
"""In the name of a shard: folders, drives, addresses, and what a URL decodes to them."""
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

DTYPE_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one element, for every type of safetensors 0.8."""

OpenFile = Callable[[str], tuple[BinaryIO, int] | None]
"""A file of a checkpoint by its name: seekable, and its bytes; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """What a header says of one tensor."""

    name: str
    dtype: str
    """A key of ``DTYPE_BITS``."""
    shape: tuple[int, ...]
    file: str
    """The file that holds it, by its name in the checkpoint."""
    begin: int
    """First byte in that file, counted from its start."""
    end: int
    """The byte after its last."""

    @property
    def num_elements(self) -> int:
        """Of its shape; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """As stored."""
        return self.end - self.begin


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a .safetensors file, or of a directory with one or with an index of several.

    Raises:
        InputError: something is missing, truncated or against the format.
        UnsafeInputError: a name leads out of the directory, or the weights are pickled.
    """
    try:
        if not path.is_dir():
            return _read_file(str(path), path.name, _open(path))
        weight_files(path)
        return read_checkpoint(str(path), lambda name: _open(inside(path, name)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint, each inside ``directory``; none is opened.

    Raises:
        InputError: there are none, or one that the index names is missing.
        UnsafeInputError: a name leads out of the directory, or the weights are pickled.
    """
    if (single := inside(directory, WEIGHTS_NAME)).is_file():
        return [single]
    if not inside(directory, INDEX_NAME).is_file():
        pickled = sorted(p.name for p in directory.iterdir() if p.suffix in _PICKLE_SUFFIXES)
        if pickled:
            raise UnsafeInputError(
                f"{directory}: has only pickled weights ({pickled[0]}), which can run code when "
                "read; convert them to safetensors first"
            )
        raise InputError(f"{directory}: has neither {WEIGHTS_NAME} nor {INDEX_NAME}")
    index = directory / INDEX_NAME
    shards = [file for file in directory.glob("*.safetensors") if file.is_file()]
    num_data_bytes = sum(file.stat().st_size for file in shards)
    most = _FREE_BYTES + num_data_bytes // _DATA_PER_BYTE
    if (num_bytes := index.stat().st_size) > most:
        raise InputError(
            f"{index}: has {num_bytes} bytes; beside {num_data_bytes} bytes of safetensors at most "
            f"{most} are read"
        )
    weight_map = _read_index(str(index), _open(inside(directory, INDEX_NAME)))
    files = [inside(directory, name) for name in sorted(set(weight_map.values()))]
    if absent := next((file.name for file in files if not file.is_file()), None):
        raise InputError(f"{index}: {absent}: no such file; the shard is missing")
    return files


def not_finite(source: str, name: str, place: Sequence[int], value: float) -> InputError:
    """The error of a weight that is no finite float32; ``place`` is its index in the tensor."""
    return InputError(
        f"{source}: {name}: {list(place)}: is {value:g}, must be a finite float32; get the file "
        "again"
    )


def inside(directory: Path, name: str) -> Path:
    """``directory/name``, which need not exist.

    Links are followed inside the directory only, and from a snapshot of a hub cache to the
    ``blobs`` of the same repository, where all its files are.

    Raises:
        InputError: a link leads round in a circle.
        UnsafeInputError: the file lies elsewhere.
    """
    path = directory / name
    try:
        root, real = directory.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be resolved: {error}") from error
    roots = [root]
    repository = root.parent.parent
    if root.parent.name == "snapshots" and repository.name.startswith("models--"):
        roots.append(repository / "blobs")
    if not any(real.is_relative_to(place) for place in roots):
        raise UnsafeInputError(f"{path}: is a link that leads outside the directory")
    return path


def read_checkpoint(source: str, open_file: OpenFile) -> dict[str, TensorHeader]:
    """The tensors of a checkpoint anywhere; no more than headers and the index are read.

    Raises:
        InputError, UnsafeInputError: as ``read_headers``.
    """
    if opened := open_file(WEIGHTS_NAME):
        return _read_file(f"{source}/{WEIGHTS_NAME}", WEIGHTS_NAME, opened)
    index = f"{source}/{INDEX_NAME}"
    weight_map = _read_index(index, open_file(INDEX_NAME))
    tensors: dict[str, TensorHeader] = {}
    for name in sorted(set(weight_map.values())):
        shard = f"{source}/{name}"
        for tensor in _read_file(shard, name, open_file(name)).values():
            if (first := tensors.setdefault(tensor.name, tensor)) is not tensor:
                raise InputError(f"{shard}: {shown(tensor.name)}: is in {first.file} as well")
            if (listed := weight_map.get(tensor.name, "no file")) != name:
                raise InputError(f"{shard}: {shown(tensor.name)}: is in {listed} by the index")
    if missing := sorted(set(weight_map) - set(tensors)):
        raise InputError(
            f"{index}: weight_map: {shown(missing[0])}: is not in {weight_map[missing[0]]} "
            f"({len(missing)} missing in all)"
        )
    return tensors


def _open(path: Path) -> tuple[BinaryIO, int] | None:
    if not path.exists():
        return None
    if not path.is_file():  # opening a pipe would wait for somebody to write
        raise InputError(f"{path}: is not a file")
    return path.open("rb"), path.stat().st_size


def _read_index(source: str, opened: tuple[BinaryIO, int] | None) -> dict[str, str]:
    """Tensor name -> name of its file, of a model.safetensors.index.json."""
    if opened is None:
        raise InputError(f"{source}: no such file, nor {WEIGHTS_NAME} beside it")
    file, num_bytes = opened
    with file:
        if num_bytes > _MAX_INDEX_BYTES:
            raise InputError(
                f"{source}: has {num_bytes} bytes; at most {_MAX_INDEX_BYTES} are read"
            )
        weight_map = parse_config(file.read(), source, "index of shards").values.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{source}: weight_map: must map tensor names to files")
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise InputError(f"{source}: weight_map: {shown(tensor)}: must be a file name")
    names = sorted(set(weight_map.values()))
    if len(names) > _MAX_FILES:
        raise InputError(f"{source}: weight_map: {len(names)} files; at most {_MAX_FILES} are read")
    for name in names:
        if (
            not name.isprintable()
            or not _FORBIDDEN_IN_NAMES.isdisjoint(name)
            or name.startswith((".", "~"))
        ):
            raise UnsafeInputError(
                f"{source}: weight_map: {shown(name)}: lies outside the directory, or is not the "
                "plain name of a file in it"
            )
        if not name.endswith(".safetensors"):
            raise UnsafeInputError(f"{source}: weight_map: {shown(name)}: is not safetensors")
    return weight_map


def _read_file(
    source: str, name: str, opened: tuple[BinaryIO, int] | None
) -> dict[str, TensorHeader]:
    if opened is None:
        raise InputError(f"{source}: no such file")
    file, num_bytes = opened
    with file:
        return parse_header(file, num_bytes, source=source, name=name)


def parse_header(
    file: BinaryIO, num_bytes: int, *, source: str, name: str
) -> dict[str, TensorHeader]:
    """The tensors of one file of ``num_bytes``, of which only the header is read.

    ``source`` is what messages call the file, ``name`` what the tensors do.

    Raises:
        InputError: it is truncated or against the format; names the file and the field.
        UnsafeInputError: a tensor has the name of a path out of a directory.
    """
    entries, data_start = _entries(file, num_bytes, source)
    tensors = [
        _tensor(source, key, entry, name, data_start)
        for key, entry in entries.items()
        if key != _METADATA
    ]
    _check_cover(source, tensors, data_start, num_bytes)
    return {tensor.name: tensor for tensor in tensors}


def read_metadata(path: Path) -> dict[str, str]:
    """The strings that a .safetensors file keeps beside its tensors.

    Raises:
        InputError: it is missing, truncated or against the format.
    """
    if (opened := _open(path)) is None:
        raise InputError(f"{path}: no such file")
    file, num_bytes = opened
    with file:
        entries, _ = _entries(file, num_bytes, str(path))
    metadata: dict[str, str] = entries.get(_METADATA, {})
    return metadata


def _entries(file: BinaryIO, num_bytes: int, source: str) -> tuple[Mapping[str, Any], int]:
    """The header of a file, and where its data starts."""
    start = file.read(8)
    if len(start) < 8:
        raise InputError(f"{source}: is truncated: has {len(start)} bytes, not even a length")
    length = int.from_bytes(start, "little")
    if not 2 <= length <= num_bytes - 8:
        raise InputError(
            f"{source}: header length: {length}, but {num_bytes - 8} bytes follow; the file is "
            "truncated or not safetensors"
        )
    num_data_bytes = num_bytes - 8 - length
    most = min(MAX_HEADER_BYTES, _FREE_BYTES + num_data_bytes // _DATA_PER_BYTE)
    if length > most:
        raise InputError(
            f"{source}: header length: {length}; before {num_data_bytes} bytes of data at most "
            f"{most} are read"
        )
    header = file.read(length)
    if len(header) < length:
        raise InputError(f"{source}: is truncated: {len(header)} of {length} bytes of its header")
    if header[:1] != b"{":
        raise InputError(f"{source}: header: starts with {ascii(header[:1])[2:-1]}, not with {{")
    entries = parse_config(header, f"{source}: header", "safetensors header").values
    _check_metadata(source, entries)
    return entries, 8 + length


def _check_metadata(source: str, entries: Mapping[str, Any]) -> None:
    metadata = entries.get(_METADATA, {})
    if not isinstance(metadata, dict):
        raise InputError(f"{source}: header: {_METADATA}: must be an object")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise InputError(f"{source}: header: {_METADATA}.{shown(key)}: must be a string")


def _tensor(source: str, name: str, entry: Any, file: str, data_start: int) -> TensorHeader:
    """One entry of a header, whose bytes fit its type and shape."""

    def fail(problem: str) -> InputError:
        return InputError(f"{source}: header: {shown(name)}: {problem}")

    if not name.isprintable():
        raise fail("has characters that cannot be printed")
    if ".." in name or name.startswith("/"):
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or not parts[0]:
            raise UnsafeInputError(f"{source}: header: {shown(name)}: is a path, not a tensor name")
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise fail(f"must have exactly {', '.join(sorted(_FIELDS))}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise fail(f"dtype: {shown(str(dtype))}: is not known")
    if not _are_sizes(shape, _MAX_SIZE) or len(shape) > _MAX_DIMENSIONS:
        raise fail(
            f"shape: must be at most {_MAX_DIMENSIONS} whole numbers from 0 to {_MAX_SIZE}, "
            f"got {shown(str(shape))}"
        )
    if not _are_sizes(offsets, _MAX_OFFSET) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise fail(f"data_offsets: must be [begin, end], got {shown(str(offsets))}")
    if math.prod(size for size in shape if size) > _MAX_OFFSET:
        raise fail(f"shape: {shown(str(shape))}: its strides are beyond {_MAX_OFFSET}")
    begin, end = offsets
    num_bits = math.prod(shape) * DTYPE_BITS[dtype]
    if num_bits != 8 * (end - begin):
        raise fail(
            f"data_offsets: {end - begin} bytes, but {dtype} of shape {shown(str(shape))} "
            f"has {num_bits} bits"
        )
    return TensorHeader(
        name=name,
        dtype=dtype,
        shape=tuple(shape),
        file=file,
        begin=data_start + begin,
        end=data_start + end,
    )


def _are_sizes(values: Any, maximum: int) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= maximum for value in values
    )


def _check_cover(source: str, tensors: list[TensorHeader], data_start: int, num_bytes: int) -> None:
    """Refuse data that the tensors overlap in, leave out or reach beyond."""
    covered = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.end > num_bytes:
            raise InputError(
                f"{source}: header: {shown(tensor.name)}: data_offsets: ends at byte {tensor.end} "
                f"of {num_bytes}; the file is truncated"
            )
        if tensor.begin != covered:
            problem = "overlaps" if tensor.begin < covered else "leaves a hole after"
            raise InputError(
                f"{source}: header: {shown(tensor.name)}: data_offsets: {problem} the tensor "
                f"before it, which ends at byte {covered}"
            )
        covered = tensor.end
    if covered != num_bytes:
        raise InputError(
            f"{source}: header: data_offsets: the tensors end at byte {covered} of {num_bytes}"
        )
