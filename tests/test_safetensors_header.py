"""safetensors headers: sound ones as the safetensors package reads them, others refused."""

import io
import json
import os
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
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
    MALFORMED,
    TWO,
    U8,
    entry,
    header_of,
    ours,
    pairs,
    theirs,
    write,
    write_raw,
    write_sharded,
    write_tensors,
)

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
        "x\0.safetensors",
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


# -- any bytes ---------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_one_line(data: bytes) -> None:
    line = ours(struct.pack("<Q", len(data)) + data)
    if isinstance(line, str):
        assert line.startswith("s: ")
        assert line.isprintable()
