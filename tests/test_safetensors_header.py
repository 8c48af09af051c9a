"""safetensors headers: sound ones as the safetensors package reads them, others refused."""

import io
import json
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.torch import save_file

from ngscale.errors import InputError, NgscaleError, UnsafeInputError
from ngscale.safetensors_header import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    parse_header,
    read_checkpoint,
    read_headers,
    weight_files,
)
from tests.safetensors_files import (
    entry,
    header_of,
    write,
    write_raw,
    write_sharded,
    write_tensors,
)

TWO = {"a": ("F32", [2, 3]), "b": ("BF16", [5])}


# -- sound files -------------------------------------------------------------------------------


def test_a_file_says_what_the_safetensors_package_says(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(1.5),
        "none": torch.zeros(0, 3),
        "word.weight": torch.zeros(7, 4, dtype=torch.bfloat16),
        "id": torch.zeros(3, dtype=torch.int64),
        "flag": torch.zeros(5, dtype=torch.bool),
        "fp8": torch.zeros(2, 2, dtype=torch.float8_e4m3fn),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    found = read_headers(path)
    data = path.read_bytes()
    with safe_open(path, "pt") as theirs:
        assert set(found) == set(theirs.keys())
        for name, tensor in found.items():
            view = theirs.get_slice(name)
            assert (list(tensor.shape), tensor.dtype) == (view.get_shape(), view.get_dtype())
            expected = theirs.get_tensor(name)
            assert tensor.num_elements == expected.numel()
            assert tensor.num_bytes == expected.numel() * expected.element_size()
            stored = expected.contiguous().reshape(-1).view(torch.uint8)
            assert data[tensor.begin : tensor.end] == bytes(stored.tolist())
    assert {tensor.file for tensor in found.values()} == {"model.safetensors"}


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_every_type_has_the_width_of_the_safetensors_package(dtype: str) -> None:
    header = json.dumps({"a": entry(dtype, [8], 0, DTYPE_BITS[dtype])}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(DTYPE_BITS[dtype])
    assert theirs(data) == ours(data) == {"a": (dtype, [8])}


def test_order_in_the_header_is_free_and_blanks_may_follow(tmp_path: Path) -> None:
    header = {"b": entry("U8", [1], 2, 3), "a": entry("BF16", [1], 0, 2)}
    path = write_raw(tmp_path / "x.safetensors", json.dumps(header).encode() + b"   ", 3)
    assert {name: tensor.num_bytes for name, tensor in read_headers(path).items()} == {
        "b": 1,
        "a": 2,
    }


def test_only_the_header_is_read(tmp_path: Path) -> None:
    header, num_bytes = header_of(TWO)
    text = json.dumps(header).encode()

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    file = Counted(struct.pack("<Q", len(text)) + text + bytes(num_bytes))
    parse_header(file, 8 + len(text) + num_bytes, source="s", name="n")
    assert file.taken == 8 + len(text)


def test_shards_are_read_together(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"1.safetensors": TWO, "2.safetensors": {"c": ("U8", [4])}})
    found = read_headers(tmp_path)
    assert {name: tensor.file for name, tensor in found.items()} == {
        "a": "1.safetensors",
        "b": "1.safetensors",
        "c": "2.safetensors",
    }
    assert [path.name for path in weight_files(tmp_path)] == ["1.safetensors", "2.safetensors"]


def test_one_file_goes_before_an_index(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"1.safetensors": TWO})
    write_tensors(tmp_path / "model.safetensors", {"c": ("U8", [4])})
    assert list(read_headers(tmp_path)) == ["c"]


def test_a_checkpoint_elsewhere_is_read_through_its_own_opener() -> None:
    header, num_bytes = header_of(TWO)
    text = json.dumps(header).encode()
    files = {
        "model.safetensors.index.json": json.dumps(
            {"weight_map": dict.fromkeys(TWO, "x.safetensors")}
        ).encode(),
        "x.safetensors": struct.pack("<Q", len(text)) + text,
    }
    asked = []

    def open_file(name: str) -> tuple[io.BytesIO, int] | None:
        asked.append(name)
        data = files.get(name)
        return None if data is None else (io.BytesIO(data), len(data) + num_bytes)

    assert set(read_checkpoint("hf://owner/name", open_file)) == {"a", "b"}
    assert asked == ["model.safetensors", "model.safetensors.index.json", "x.safetensors"]


def test_a_snapshot_of_a_hub_cache_is_links_to_its_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    write_tensors(repository / "blobs" / "0f", TWO)
    (snapshot / "model.safetensors").symlink_to("../../blobs/0f")
    assert set(read_headers(snapshot)) == {"a", "b"}
    write_tensors(tmp_path / "elsewhere", TWO)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../../elsewhere")
    with pytest.raises(UnsafeInputError, match="leads outside"):
        read_headers(snapshot)


# -- files against the format ------------------------------------------------------------------

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


def refuse(path: Path, kind: type[NgscaleError] = InputError) -> str:
    """The one line it is refused with, soon."""
    start = time.perf_counter()
    with pytest.raises(kind) as caught:
        read_headers(path)
    assert caught.type is kind
    assert time.perf_counter() - start < 1
    line = str(caught.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    return line


@pytest.mark.parametrize("case", MALFORMED)
def test_a_file_against_the_format_is_refused(tmp_path: Path, case: str) -> None:
    header, num_data_bytes, problem = MALFORMED[case]
    line = refuse(write_raw(tmp_path / "x.safetensors", header, num_data_bytes))
    assert problem in line
    assert len(line) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("length", "problem"),
    [
        (0, "header length: 0"),
        (1, "header length: 1"),
        (10**6, "header length: 1000000, but"),
        (2**63, f"header length: {2**63}, but"),
        (2**64 - 1, f"header length: {2**64 - 1}, but"),
    ],
)
def test_a_wrong_header_length_is_refused(tmp_path: Path, length: int, problem: str) -> None:
    path = write_raw(tmp_path / "x.safetensors", pairs(("a", U8)), 2, length=length)
    assert problem in refuse(path)


@pytest.mark.parametrize("num_bytes", [0, 1, 7])
def test_a_file_shorter_than_a_length_is_refused(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(num_bytes))
    assert f"is truncated: has {num_bytes} bytes" in refuse(path)


@pytest.mark.parametrize("num_header_bytes", [MAX_HEADER_BYTES + 1, 100 * 10**6, 2**40])
def test_a_huge_header_is_refused_unread(tmp_path: Path, num_header_bytes: int) -> None:
    path = write_raw(tmp_path / "x.safetensors", b"{", num_header_bytes, length=num_header_bytes)
    tracemalloc.start()
    try:
        assert "header length" in refuse(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_header_needs_data_in_proportion(tmp_path: Path) -> None:
    """Memory stays below twice the file (and what little files take): many empty tensors."""
    header = json.dumps({f"{index:x}": entry("U8", [0], 0, 0) for index in range(40_000)}).encode()
    assert len(header) > 2 * 2**20
    assert "before 0 bytes of data at most 1048576 are read" in refuse(
        write_raw(tmp_path / "x.safetensors", header, 0)
    )
    header = json.dumps(
        {"data": entry("U8", [2**25], 0, 2**25)}
        | {f"{index:x}": entry("U8", [0], 0, 0) for index in range(40_000)}
    ).encode()
    path = write_raw(tmp_path / "y.safetensors", header, 2**25)
    tracemalloc.start()
    try:
        assert len(read_headers(path)) == 40_001
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keep", [0, 5, 8, 20, 100, -1])
def test_every_truncation_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_tensors(tmp_path / "x.safetensors", TWO)
    path.write_bytes(path.read_bytes()[:keep])
    refuse(path)


@pytest.mark.parametrize(
    "name", ["../a", "a/../b", "a/..", "..", "/etc/passwd", "..\\a", "a\\..\\b"]
)
def test_a_tensor_named_like_a_path_is_unsafe(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.safetensors", {name: U8}, 2)
    assert "is a path, not a tensor name" in refuse(path, UnsafeInputError)


@pytest.mark.parametrize("name", ["a..b", "a/b", "model.layers.0", "\u00e9", "a b", ""])
def test_a_tensor_name_may_be_odd(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.safetensors", {name: U8}, 2)
    assert set(read_headers(path)) == {name}


def test_a_missing_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refuse(tmp_path / "none.safetensors")
    assert "cannot be read: File name too long" in refuse(tmp_path / ("x" * 300))
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "is not a file" in refuse(tmp_path / "pipe.safetensors")


# -- directories -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "sub/../../x.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "https://example.org/x.safetensors",
        "file:x.safetensors",
        "%2e%2e%2fx.safetensors",
        "..",
        ".x.safetensors",
        "pytorch_model.bin",
    ],
)
def test_an_index_that_leads_elsewhere_is_unsafe(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    write_tensors(tmp_path / "x.safetensors", TWO)
    write_sharded(directory, {"1.safetensors": TWO}, a=name)
    assert "index.json: weight_map: " in refuse(directory, UnsafeInputError)


@pytest.mark.parametrize("names", [("1.safetensors",), ("model.safetensors.index.json",)])
def test_a_link_out_of_the_directory_is_unsafe(tmp_path: Path, names: tuple[str]) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    write_sharded(directory, {"1.safetensors": TWO})
    for name in names:
        (directory / name).rename(tmp_path / name)
        (directory / name).symlink_to(tmp_path / name)
    assert "leads outside the directory" in refuse(directory, UnsafeInputError)


def test_a_link_inside_the_directory_is_followed(tmp_path: Path) -> None:
    write_tensors(tmp_path / "real.safetensors", TWO)
    (tmp_path / "model.safetensors").symlink_to("real.safetensors")
    assert set(read_headers(tmp_path)) == set(TWO)


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(InputError):
        read_headers(tmp_path)


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "weight_map: must map"),
        ('{"weight_map": {}}', "weight_map: must map"),
        ('{"weight_map": ["a"]}', "weight_map: must map"),
        ('{"weight_map": {"a": 1}}', "weight_map: a: must be a file name"),
        ('{"weight_map": {"a": null}}', "weight_map: a: must be a file name"),
        ('{"weight_map": {"a": "x\\u0000.safetensors"}}', "weight_map: a: must be a file name"),
        ('{"weight_map": {"a": "x.safetensors", "a": "x.safetensors"}}', "a: appears twice"),
        ('{"weight_map": {"a": "x.safetensors"}}', "x.safetensors: no such file"),
    ],
)
def test_a_malformed_index_is_refused(tmp_path: Path, index: str, problem: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert problem in refuse(tmp_path)


@pytest.mark.parametrize(
    ("index", "num_data_bytes", "problem"),
    [
        (
            json.dumps({"weight_map": {f"{i}": f"{i}.safetensors" for i in range(5000)}}),
            2**20,
            "weight_map: 5000 files; at most 4096 are read",
        ),
        ("{" + " " * 2**20, 0, "beside 0 bytes of safetensors at most 1048576 are read"),
        ("{" + " " * 2**25, 2**30, "bytes; at most 33554432 are read"),
    ],
    ids=["files", "without data", "bytes"],
)
def test_a_huge_index_is_refused(
    tmp_path: Path, index: str, num_data_bytes: int, problem: str
) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with (tmp_path / "data.safetensors").open("wb") as file:
        file.truncate(num_data_bytes)
    assert problem in refuse(tmp_path)


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    shards = {"1.safetensors": TWO, "2.safetensors": {"c": ("U8", [4])}}
    write_sharded(tmp_path, shards, d="2.safetensors")
    assert "d: is not in 2.safetensors (1 missing in all)" in refuse(tmp_path)
    write_sharded(tmp_path, shards, c="1.safetensors", a="2.safetensors")
    assert "a: is in 2.safetensors by the index" in refuse(tmp_path)
    write_sharded(tmp_path, shards)
    index = tmp_path / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    del listed["weight_map"]["b"]
    index.write_text(json.dumps(listed))
    assert "1.safetensors: b: is in no file by the index" in refuse(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"1.safetensors": TWO, "2.safetensors": {"a": ("U8", [4])}})
    # the index can name one of them only, and it is found before that
    index = tmp_path / "model.safetensors.index.json"
    listed = json.loads(index.read_text())["weight_map"]
    listed |= {"a": "1.safetensors", "z": "2.safetensors"}
    index.write_text(json.dumps({"weight_map": listed}))
    assert "2.safetensors: a: is in 1.safetensors as well" in refuse(tmp_path)


def test_a_shard_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"1.safetensors": TWO})
    (tmp_path / "1.safetensors").unlink()
    (tmp_path / "1.safetensors").mkdir()
    assert "1.safetensors: no such file" in refuse(tmp_path)


# -- mutations ---------------------------------------------------------------------------------

MUTATIONS: list[Callable[[dict[str, Any], random.Random], object]] = [
    lambda header, draw: header[draw.choice(list(header))].update(
        dtype=draw.choice([*DTYPE_BITS, "F7", 1, None])
    ),
    lambda header, draw: header[draw.choice(list(header))].update(
        shape=[draw.choice([0, 1, 2, 3, -1, 2**40, 2**63, 1.5]) for _ in range(draw.randrange(4))]
    ),
    lambda header, draw: header[draw.choice(list(header))]["data_offsets"].__setitem__(
        draw.randrange(2), draw.choice([0, 1, 2, 6, 24, 34, -1, 2**64, "0"])
    ),
    lambda header, draw: header[draw.choice(list(header))].pop(
        draw.choice(["dtype", "shape", "data_offsets"]), None
    ),
    lambda header, draw: header.pop(draw.choice(list(header))),
    lambda header, draw: header.update(
        {draw.choice(["new", "__metadata__"]): dict(header[draw.choice(list(header))])}
    ),
    lambda header, draw: header.update({"__metadata__": draw.choice([{"a": "b"}, {"a": 1}, 3])}),
    # what the package reads, and some of it we too
    lambda header, draw: header.update({"__metadata__": draw.choice([{"a": "b"}, {}, None])}),
    lambda header, draw: header["e"].update(shape=[0, draw.choice([1, 2**20, 2**40])]),
    lambda header, draw: header["a"].update(shape=draw.choice([[6], [3, 2], [1, 6, 1]])),
    lambda header, draw: header["b"].update(dtype=draw.choice(["F16", "I16", "U16"])),
    lambda header, draw: header["d"].update(extra=1),
    lambda header, draw: header.update({"z": header.pop("a")}),
]


STRICTER = ("appears twice", "must have exactly", "must be an object", "shape: must be")
"""What is refused here and read by the safetensors package: repeated keys, unknown fields, null
metadata and sizes of 2**40 in tensors without data.
"""


def mutated(seed: int) -> bytes:
    """A sound file with fields and bytes of its header changed; the length follows."""
    draw = random.Random(seed)
    header, num_bytes = header_of({**TWO, "c": ("U8", [2, 5]), "d": ("I64", []), "e": ("U8", [0])})
    for _ in range(draw.randrange(1, 3)):
        if list(header) == list("abcde"):
            draw.choice(MUTATIONS)(header, draw)
    text = bytearray(json.dumps(header).encode())
    if draw.random() < 0.2:
        text[draw.randrange(len(text))] = draw.randrange(256)
    length = len(text) + (draw.choice([-1, 1, 8]) if draw.random() < 0.1 else 0)
    return struct.pack("<Q", length) + text + bytes(num_bytes + draw.choice([0] * 8 + [1, -1]))


def ours(data: bytes) -> dict[str, tuple[str, list[int]]] | str:
    """What the file holds, or what it is refused with."""
    try:
        found = parse_header(io.BytesIO(data), len(data), source="s", name="n")
    except NgscaleError as error:
        return str(error)
    return {name: (tensor.dtype, list(tensor.shape)) for name, tensor in found.items()}


def theirs(data: bytes) -> dict[str, tuple[str, list[int]]] | None:
    try:
        read: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError:
        return None
    return {name: (tensor["dtype"], tensor["shape"]) for name, tensor in read}


def test_mutated_files_are_judged_as_by_the_safetensors_package_or_more_strictly() -> None:
    accepted, refused, stricter = 0, 0, 0
    for seed in range(1000):
        data = mutated(seed)
        here, there = ours(data), theirs(data)
        if not isinstance(here, str):
            assert here == there, seed
            accepted += 1
        elif there is None:
            assert here.isprintable()
            refused += 1
        else:
            assert any(reason in here for reason in STRICTER), (seed, here)
            stricter += 1
    assert min(accepted, refused, stricter) >= 30, (accepted, refused, stricter)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_one_line(data: bytes) -> None:
    line = ours(struct.pack("<Q", len(data)) + data)
    if isinstance(line, str):
        assert line.startswith("s: ")
        assert line.isprintable()
