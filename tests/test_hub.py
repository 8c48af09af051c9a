"""Data sets of the hub, offline: local directories and made-up addresses stand in for them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngscale import hub
from ngscale.errors import InputError, NetworkError
from ngscale.hub import HubDataset
from ngscale.tokens import load_tokenizer, read_stream
from tests.safetensors_files import write_tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(directory: Path, texts: list[str], name: str = "train") -> str:
    directory.mkdir(exist_ok=True)
    lines = "".join(json.dumps({"text": text, "body": text[::-1]}) + "\n" for text in texts)
    (directory / f"{name}.jsonl").write_text(lines)
    return f"hf://{directory}"


class Builder:
    """A data set whose files have the given addresses."""

    hash, config_id = "h", "default"

    def __init__(self, addresses: list[str], rows: list[str]) -> None:
        self.config = type("Config", (), {"data_files": {"train": addresses}})
        self.served = 0
        self._rows = rows

    def as_streaming_dataset(self, split: str) -> Iterator[dict[str, Any]]:
        assert split == "train"
        self.served += 1
        return ({"text": text} for text in self._rows)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entries(cache: Path) -> int:
    return len(list((cache / "tokens").iterdir())) if (cache / "tokens").exists() else 0


def read(source: str, cache: Path, **options: str) -> list[int]:
    stream = read_stream([source], load_tokenizer("bpe-4096"), cache=cache, **options)  # type: ignore[arg-type]
    return list(map(int, stream.tokens))


def test_a_stream_is_read_once_and_again_when_a_file_changes(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "set", ["one text", "another"])
    first = read(source, cache)
    assert read(source, cache) == first
    assert entries(cache) == 1
    write(tmp_path / "set", ["one text", "changed"])
    assert read(source, cache) != first
    assert entries(cache) == 2


def test_split_and_text_field_are_part_of_the_key(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "set", ["one text", "another"])
    write(tmp_path / "set", ["held out"], name="validation")
    streams = [
        read(source, cache),
        read(source, cache, split="validation"),
        read(source, cache, text_field="body"),
    ]
    assert len({tuple(ids) for ids in streams}) == entries(cache) == 3
    with pytest.raises(InputError, match="Bad split"):
        read(source, cache, split="nowhere")


def test_a_hub_data_set_is_keyed_and_read_at_one_commit(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """The name is resolved once a run; the same commit is found in the cache, another is read."""
    now: list[Builder] = []

    def resolve(source: str) -> HubDataset:
        return HubDataset(source=source, builder=now[-1])

    monkeypatch.setattr(hub, "resolve", resolve)
    address = f"hf://datasets/owner/name@{COMMIT}/data/train-0.parquet"
    for builder in (Builder([address], ["first revision"]), Builder([address], ["not read"])):
        now.append(builder)
        found = read("hf://owner/name", cache)
    assert [builder.served for builder in now] == [1, 0]
    now.append(Builder([address.replace("0123", "ffff", 1)], ["second revision"]))
    assert read("hf://owner/name", cache) != found
    assert entries(cache) == 2


def test_an_address_without_a_commit_is_read_anew_each_time(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    builder = Builder(["https://example.org/train.parquet"], ["some text"])
    monkeypatch.setattr(hub, "resolve", lambda source: HubDataset(source=source, builder=builder))
    assert read("hf://owner/name", cache) == read("hf://owner/name", cache)
    assert builder.served == 2
    assert entries(cache) == 0


def test_where_a_data_set_stands_among_files_matters(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "set", ["from the hub"])
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"{name} ")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    orders = ([source, *files], [files[0], source, files[1]], [*files, source])
    tokenizer = load_tokenizer("bpe-4096")
    streams = [read_stream(order, tokenizer, cache=cache) for order in orders]
    assert len({stream.sha256() for stream in streams}) == entries(cache) == 3


def test_of_a_model_only_config_and_headers_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub stands in memory; what is read of its weights is counted."""
    import huggingface_hub

    local = write_tensors(tmp_path / "model.safetensors", {"lm_head.weight": ("F32", [999, 999])})
    config = tmp_path / "config.json"
    config.write_text("{}")
    address = f"owner/name@{COMMIT}/model.safetensors"
    stored = {address: local.read_bytes()}
    fetched: list[int] = []

    class File(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            fetched.append(len(data))
            return data

    class Files:
        def exists(self, address: str) -> bool:
            return address in stored

        def size(self, address: str) -> int:
            return len(stored[address])

        def open(self, address: str, mode: str, *, cache_type: str) -> File:
            assert (mode, cache_type) == ("rb", "none")
            return File(stored[address])

    class Api:
        def model_info(self, repository: str) -> Any:
            assert repository == "owner/name"
            return type("Info", (), {"sha": COMMIT})

    def download(repository: str, name: str, *, revision: str) -> str:
        assert (repository, name, revision) == ("owner/name", "config.json", COMMIT)
        return str(config)

    monkeypatch.setattr(huggingface_hub, "HfFileSystem", Files)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path, tensors = hub.read_model("hf://owner/name")
    assert path == config
    assert tensors["lm_head.weight"].shape == (999, 999)
    begin = tensors["lm_head.weight"].begin
    assert fetched == [8, begin - 8]
    stored.clear()
    with pytest.raises(InputError, match=r"no such file, nor model\.safetensors beside it"):
        hub.read_model("hf://owner/name")


def test_a_hub_that_cannot_be_reached_is_a_network_error() -> None:
    """The tests run offline."""
    with pytest.raises(NetworkError, match="hf://owner/name: cannot be reached"):
        hub.read_model("hf://owner/name")


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("owner/name", True),
        ("hf://owner/name", True),
        ("owner/name-1.5_b", True),
        ("name", False),
        ("./owner/name", False),
        ("/owner/name", False),
        ("../owner/name", False),
        ("owner/name/more", False),
        ("tests/nowhere", False),  # the folder is here: a slip of the pen
    ],
)
def test_what_looks_like_the_id_of_a_model(
    name: str, is_id: bool, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    assert hub.looks_like_id(name) == is_id


def test_of_a_model_no_pickle_and_no_code_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder stands in for the hub, filtered as the hub's library does."""
    import huggingface_hub
    from huggingface_hub.utils._paths import filter_repo_objects

    held = ["config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"]
    other = ["pytorch_model.bin", "modeling_x.py", "onnx/model.safetensors", "README.md"]
    fetched: list[str] = []

    def download(repository: str, **patterns: Any) -> str:
        assert repository == "owner/name"
        fetched.extend(filter_repo_objects(held + other, **patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch_model("hf://owner/name") == tmp_path
    assert fetched == held


def test_a_model_that_cannot_be_fetched_is_a_network_error() -> None:
    with pytest.raises(NetworkError, match="hf://owner/name: cannot be reached") as caught:
        hub.fetch_model("hf://owner/name")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"hf://a--b/c\.\.d: "):
        hub.fetch_model("hf://a--b/c..d")
