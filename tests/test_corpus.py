import hashlib
import json
import tomllib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ngscale.corpus import Reading, default_sources, embedded_dir
from ngscale.errors import InputError, NetworkError
from tests.documents import read_documents

TEXTS = ["First document.", "Second,\nwith two lines."]


def write_jsonl(path: Path, key: str = "text") -> Path:
    path.write_text("".join(json.dumps({key: text}) + "\n" for text in TEXTS))
    return path


def write_parquet(path: Path, key: str = "text") -> Path:
    pyarrow.parquet.write_table(pyarrow.table({key: TEXTS, "n": [1, 2]}), path)
    return path


def test_embedded_files_are_what_the_manifest_says() -> None:
    manifest = tomllib.loads((embedded_dir() / "manifest.toml").read_text())
    committed = [entry for entry in manifest["artefact"] if entry["committed"]]
    assert {Path(path).name for path in default_sources()} == {
        "emma.txt",
        "pride_and_prejudice.txt",
    }
    assert len(committed) >= 4
    for entry in committed:
        data = (embedded_dir() / entry["path"]).read_bytes()
        assert len(data) == entry["bytes"], entry["path"]
        assert hashlib.sha256(data).hexdigest() == entry["sha256"], entry["path"]


def test_hard_line_breaks_of_the_novels_are_joined() -> None:
    for text in read_documents(default_sources()):
        paragraphs = text.strip().split("\n\n")
        assert not any("\n" in paragraph for paragraph in paragraphs)
        assert max(map(len, paragraphs)) > 1000


def test_text_jsonl_and_parquet_give_the_same_documents(tmp_path: Path) -> None:
    for index, text in enumerate(TEXTS):
        (tmp_path / f"{index}.txt").write_text(text)
    assert read_documents([str(tmp_path / "*.txt")]) == TEXTS
    assert read_documents([str(write_jsonl(tmp_path / "a.jsonl"))]) == TEXTS
    assert read_documents([str(write_parquet(tmp_path / "a.parquet"))]) == TEXTS


def test_a_directory_is_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("c")
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "ignored.pdf").write_text("no")
    assert read_documents([str(tmp_path)]) == ["a", "b", "c"]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_local_files_stream_through_datasets_offline(tmp_path: Path, write: object) -> None:
    suffix = "jsonl" if write is write_jsonl else "parquet"
    write(tmp_path / f"train.{suffix}")  # type: ignore[operator]
    assert read_documents([f"hf://{tmp_path}"]) == TEXTS


def test_an_unreachable_data_set_is_a_network_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="hf://nobody/nothing"):
        read_documents(["hf://nobody/nothing"])


def test_bad_corpora_are_refused_with_file_and_reason(tmp_path: Path) -> None:
    def refused(source: Path, pattern: str, field: str = "text") -> None:
        with pytest.raises(InputError, match=pattern):
            read_documents([str(source)], Reading(text_field=field))

    refused(tmp_path / "missing.txt", "no such file")
    refused(tmp_path, "the directory has no")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused(tmp_path / "latin.txt", "byte 3 is not UTF-8")
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    refused(tmp_path / "a.pdf", "not a corpus")
    (tmp_path / "broken.jsonl").write_text('{"text": "fine"}\n{"text":\n')
    refused(tmp_path / "broken.jsonl", "line 2 is not JSON")
    refused(write_jsonl(tmp_path / "a.jsonl", key="body"), "line 1 has no text in 'text'")
    refused(write_parquet(tmp_path / "a.parquet", key="body"), "no column 'text'.*body")
    refused(write_parquet(tmp_path / "b.parquet"), "holds int", field="n")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-9])
    refused(tmp_path / "cut.parquet", "cannot be read as parquet")
