"""safetensors files written by hand, sound ones and others."""

import contextlib
import io
import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from ngscale.errors import NgscaleError
from ngscale.safetensors_header import DTYPE_BITS, parse_header

TWO = {"a": ("F32", [2, 3]), "b": ("BF16", [5])}

BYTES = {"U8": 1, "BOOL": 1, "F8_E4M3": 1, "BF16": 2, "F16": 2, "F32": 4, "I64": 8}


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def header_of(tensors: Mapping[str, tuple[str, list[int]]]) -> tuple[dict[str, Any], int]:
    """A sound header of these tensors, in this order, and the bytes of their data."""
    entries, begin = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = begin + BYTES[dtype]
        for size in shape:
            end = begin + (end - begin) * size
        entries[name] = entry(dtype, shape, begin, end)
        begin = end
    return entries, begin


def write_raw(path: Path, header: bytes, num_data_bytes: int, length: int | None = None) -> Path:
    """Any header, and data that takes no room on the disk."""
    size = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + num_data_bytes)
    return path


def write(path: Path, header: Mapping[str, Any], num_data_bytes: int) -> Path:
    return write_raw(path, json.dumps(header).encode(), num_data_bytes)


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, list[int]]]) -> Path:
    """A sound file of these tensors."""
    header, num_bytes = header_of(tensors)
    return write(path, header, num_bytes)


def write_sharded(
    directory: Path, shards: Mapping[str, Mapping[str, tuple[str, list[int]]]], **weight_map: str
) -> Path:
    """A directory of shards with their index, of which ``weight_map`` replaces entries."""
    listed = {name: file for file, tensors in shards.items() for name in tensors}
    for file, tensors in shards.items():
        write_tensors(directory / file, tensors)
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed | weight_map}))
    return directory


U8 = entry("U8", [2], 0, 2)


def pairs(*entries: tuple[str, Any]) -> bytes:
    """A JSON object whose keys may be equal."""
    return ("{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in entries) + "}").encode()


MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "header not UTF-8": (b'{"\xff": 1}', 0, "header: is not UTF-8 text"),
    "header not JSON": (b"{nothing}", 0, "header: is not JSON"),
    "header cut off": (b'{"a": {"dtype"', 0, "header: is not JSON"),
    "header a list": (b"[1, 2]", 0, "header: starts with [, not with {"),
    "leading blanks": (b" " + pairs(("a", U8)), 2, "header: starts with  , not with {"),
    "leading mark": (b"\xef\xbb\xbf" + pairs(("a", U8)), 2, "header: starts with"),
    "text after the header": (pairs(("a", U8)) + b"x", 2, "header: is not JSON"),
    "NaN": (b'{"a": NaN}', 0, "NaN is not a JSON number"),
    "deep": (b'{"a":' * 100_000, 0, "header: is not JSON"),
    "duplicate tensor": (pairs(("a", U8), ("a", U8)), 2, "header: a: appears twice"),
    "duplicate field": (
        b'{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
        2,
        "header: dtype: appears twice",
    ),
    "duplicate metadata": (
        b'{"__metadata__":{"x":"1","x":"2"},' + pairs(("a", U8))[1:],
        2,
        "header: x: appears twice",
    ),
    "metadata a list": (pairs(("__metadata__", [])), 0, "__metadata__: must be an object"),
    "metadata null": (pairs(("__metadata__", None)), 0, "__metadata__: must be an object"),
    "metadata of numbers": (
        pairs(("__metadata__", {"x": 1}), ("a", U8)),
        2,
        "__metadata__.x: must be a string",
    ),
    "entry no object": (pairs(("a", 1)), 0, "a: must have exactly data_offsets, dtype, shape"),
    "entry without dtype": (pairs(("a", {"shape": []})), 0, "a: must have exactly"),
    "entry with more": (pairs(("a", U8 | {"strides": [1]})), 2, "a: must have exactly"),
    "unknown dtype": (pairs(("a", entry("F7", [2], 0, 2))), 2, "a: dtype: F7: is not known"),
    "dtype in lower case": (pairs(("a", entry("u8", [2], 0, 2))), 2, "a: dtype: u8"),
    "dtype no string": (pairs(("a", U8 | {"dtype": ["U8"]})), 2, "a: dtype: ['U8']"),
    "negative shape": (pairs(("a", entry("U8", [-2, -1], 0, 2))), 2, "a: shape: must be"),
    "fractional shape": (pairs(("a", U8 | {"shape": [2.0]})), 2, "a: shape: must be"),
    "true as a shape": (pairs(("a", U8 | {"shape": [True, 2]})), 2, "a: shape: must be"),
    "shape a number": (pairs(("a", U8 | {"shape": 2})), 2, "a: shape: must be"),
    "shape 2^40 wide": (pairs(("a", entry("U8", [0, 2**40], 0, 0))), 0, "a: shape: must be"),
    "shape 2^80 wide": (pairs(("a", entry("U8", [2**40, 2**40, 0], 0, 0))), 0, "a: shape: must"),
    "shape of 10^4000": (b'{"a":{"dtype":"U8","shape":[1' + b"0" * 4000 + b"]}}", 0, "a: must"),
    "digits beyond Python's": (b'{"a":1' + b"0" * 5000 + b"}", 0, "header: is not JSON"),
    "a hundred dimensions": (pairs(("a", entry("U8", [1] * 100, 0, 1))), 1, "a: shape: must be"),
    "shape larger than its data": (
        pairs(("a", entry("U8", [3], 0, 2))),
        2,
        "a: data_offsets: 2 bytes, but U8 of shape [3] has 24 bits",
    ),
    "half a byte": (pairs(("a", entry("F4", [3], 0, 1))), 1, "a: data_offsets: 1 bytes"),
    "scalar of no bytes": (pairs(("a", entry("F32", [], 0, 0))), 0, "F32 of shape [] has 32"),
    "one offset": (pairs(("a", U8 | {"data_offsets": [2]})), 2, "a: data_offsets: must be"),
    "three offsets": (pairs(("a", U8 | {"data_offsets": [0, 1, 2]})), 2, "a: data_offsets: must"),
    "offsets backwards": (pairs(("a", U8 | {"data_offsets": [2, 0]})), 2, "a: data_offsets: must"),
    "offsets below zero": (pairs(("a", U8 | {"data_offsets": [-2, 0]})), 2, "a: data_offsets"),
    "offsets as text": (pairs(("a", U8 | {"data_offsets": ["0", "2"]})), 2, "a: data_offsets"),
    "offsets beyond 2^63": (
        pairs(("a", U8 | {"data_offsets": [2**64, 2**64 + 2]})),
        2,
        "a: data_offsets: must be",
    ),
    "overlap": (
        pairs(("a", U8), ("b", entry("U8", [2], 1, 3))),
        3,
        "b: data_offsets: overlaps the tensor before it",
    ),
    "the same bytes twice": (pairs(("a", U8), ("b", U8)), 2, "b: data_offsets: overlaps"),
    "empty tensor inside another": (
        pairs(("a", U8), ("b", entry("U8", [0], 1, 1))),
        2,
        "b: data_offsets: overlaps",
    ),
    "hole": (pairs(("a", U8), ("b", entry("U8", [1], 3, 4))), 4, "b: data_offsets: leaves a hole"),
    "hole at the start": (pairs(("a", entry("U8", [1], 1, 2))), 2, "a: data_offsets: leaves a"),
    "data beyond the file": (pairs(("a", U8)), 1, "the file is truncated"),
    "data beyond the tensors": (pairs(("a", U8)), 3, "data_offsets: the tensors end at byte"),
    "name with NUL": (pairs(("a\0b", U8)), 2, r"a\x00b: has characters that cannot be printed"),
    "name with a line break": (pairs(("a\nerror: b", U8)), 2, r"a\nerror: b: has characters"),
    "name of half a character": (b'{"\\ud800":' + pairs(("a", U8))[5:], 2, r"\ud800: has"),
    "long name": (pairs(("x" * 5000, U8 | {"shape": [3]})), 2, "x" * 100 + "...: data_offsets"),
}


# -- mutations ---------------------------------------------------------------------------------

_NAMES = ["new", "__metadata__", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800", "x" * 300, ""]
_SIZES = [0, 1, 2, 3, 8, -1, 2**40, 2**63, 1.5, True, None]
_OFFSETS = [0, 1, 2, 6, 24, 34, -1, 2**40, 2**64, "0", None]
_METADATA = [{"a": "b"}, {}, {"a": 1}, {"format": "pt"}, 3, [], None]
_LENGTHS = [0, 1, 8, 100 * 10**6, 2**63, 2**64 - 1]
_CAST = {1: ["U8", "I8", "BOOL"], 2: ["F16", "BF16", "I16", "U16"], 4: ["F32", "I32", "U32"]}
_NOT_FINITE = [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\xff\xff\xff\xff"]

Header = dict[str, Any]
Draw = random.Random


def _retype(header: Header, name: str, draw: Draw) -> None:
    """To another type of the same width."""
    width = DTYPE_BITS[header[name]["dtype"]] // 8
    header[name]["dtype"] = draw.choice(_CAST.get(width, ["I64", "F64", "U64", "C64"]))


def _rename(header: Header, name: str, draw: Draw) -> None:
    header[draw.choice(_NAMES)] = header.pop(name)


def _swap(header: Header, name: str, draw: Draw) -> None:
    other = draw.choice(list(header))
    header[name], header[other] = header[other], header[name]


def _reshape(header: Header, name: str, draw: Draw) -> None:
    """To a shape of as many elements."""
    shape = header[name]["shape"]
    header[name]["shape"] = draw.choice([shape[::-1], [1, *shape], [*shape, 1]])


def _edit_metadata(header: Header, name: str, draw: Draw) -> None:
    """A character of one of its strings, which may be JSON themselves."""
    key = draw.choice(list(header["__metadata__"]))
    text = header["__metadata__"][key]
    place = draw.randrange(len(text))
    changed = text[:place] + draw.choice('0123456789-.[]{}",x') + text[place + 1 :]
    header["__metadata__"][key] = draw.choice([changed, changed, text[:place], "[" * 100_000])


def _move(header: Header, name: str, draw: Draw) -> None:
    by = draw.choice([-8, -1, 1, 2, 8])
    header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]


def _empty(header: Header, name: str, draw: Draw) -> None:
    """An empty one stays empty and grows wide; a full one loses its data."""
    begin = header[name]["data_offsets"][0]
    shape = [0, draw.choice([1, 2**20, 2**39, 2**40])]
    header[name].update(shape=shape, data_offsets=[begin, begin])


MUTATIONS: list[Callable[[Header, str, Draw], object]] = [
    lambda header, name, draw: header[name].update(
        dtype=draw.choice([*DTYPE_BITS, "F7", "f32", 1, None])
    ),
    lambda header, name, draw: header[name].update(
        shape=[draw.choice(_SIZES) for _ in range(draw.randrange(4))]
    ),
    lambda header, name, draw: header[name]["data_offsets"].__setitem__(
        draw.randrange(2), draw.choice(_OFFSETS)
    ),
    lambda header, name, draw: header[name].pop(draw.choice(["dtype", "shape", "data_offsets"])),
    lambda header, name, draw: header[name].update(extra=1),
    lambda header, name, draw: header.pop(name),
    lambda header, name, draw: header.update({draw.choice(_NAMES): dict(header[name])}),
    lambda header, name, draw: header.update(__metadata__=draw.choice(_METADATA)),
    lambda header, name, draw: header.update({name: draw.choice([None, [], {}, 1, "a"])}),
    *(_retype, _rename, _swap, _reshape, _move, _empty, _edit_metadata),
]
_TEXTS: list[Callable[[str, Draw], str]] = [
    lambda text, draw: " " + text,
    lambda text, draw: text + " " * draw.randrange(9),
    lambda text, draw: "\ufeff" + text,
    lambda text, draw: text[:-1] + "," + text[1:],  # every key twice
    lambda text, draw: text[: draw.randrange(len(text))],
    lambda text, draw: text.replace('"shape"', '"shape":[0],"shape"', 1),
    lambda text, draw: text.replace("[", "[" * 50_000, 1),
    lambda text, draw: text.replace("0", draw.choice(["NaN", "1e400", "00", "-0", "0.0"]), 1),
]


def mutate(data: bytes, draw: Draw) -> bytes:
    """A sound file with something of its header, data or length changed; the length follows."""
    length = int.from_bytes(data[:8], "little")
    header, payload = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    for _ in range(draw.choice([0, 1, 1, 1, 2])):
        names = [name for name in header if name != "__metadata__"]
        with contextlib.suppress(KeyError, TypeError, AttributeError, IndexError):
            draw.choice(MUTATIONS)(header, draw.choice(names), draw)
    text = json.dumps(header)
    if draw.random() < 0.15:
        text = draw.choice(_TEXTS)(text, draw)
    written = bytearray(text.encode())
    if draw.random() < 0.15:
        written[draw.randrange(len(written))] = draw.randrange(256)
    length = len(written)
    if draw.random() < 0.1:
        length = draw.choice([length - 1, length + 1, *_LENGTHS])
    if draw.random() < 0.1:
        payload = payload[: draw.randrange(len(payload))] if draw.random() < 0.5 else payload + b"x"
    elif draw.random() < 0.1:
        place = draw.randrange(len(payload) // 4) * 4
        payload[place : place + 4] = draw.choice(_NOT_FINITE)
    return struct.pack("<Q", length) + written + payload


def sound() -> bytes:
    """A file of every kind of tensor: a matrix, a vector, bytes, a scalar, none at all."""
    tensors = {**TWO, "c": ("U8", [2, 5]), "d": ("I64", []), "e": ("U8", [0])}
    header, num_bytes = header_of(tensors)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(num_bytes)


def ours(data: bytes) -> dict[str, tuple[str, list[int]]] | str:
    """What the file holds, or what it is refused with."""
    try:
        found = parse_header(io.BytesIO(data), len(data), source="s", name="n")
    except NgscaleError as error:
        return str(error)
    return {name: (tensor.dtype, list(tensor.shape)) for name, tensor in found.items()}


def theirs(data: bytes) -> dict[str, tuple[str, list[int]]] | None:
    """The same of the safetensors package; None where it refuses the file."""
    try:
        read: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return None
    return {name: (tensor["dtype"], tensor["shape"]) for name, tensor in read}
