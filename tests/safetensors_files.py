"""safetensors files written by hand, sound ones and others."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
