import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as HfTokenizer

from ngscale.corpus import default_sources, embedded_dir
from ngscale.errors import InputError, UsageError
from ngscale.tokens import is_bin, load_tokenizer, read_bin, read_stream


@pytest.mark.parametrize(("name", "size"), [("bpe-32768", 32_768), ("bpe-4096", 4_096)])
def test_embedded_tokenizers_have_exactly_their_ids_and_lose_nothing(name: str, size: int) -> None:
    tokenizer = load_tokenizer(name)
    assert tokenizer.vocab_size == size
    ids = tokenizer.backend.get_vocab(with_added_tokens=True)
    assert sorted(ids.values()) == list(range(size))
    assert ids["<|endoftext|>"] == 0
    text = 'It is a truth universally acknowledged, "that"\n\nna\u00efve \U0001f600 \x00 \u00a3.'
    (encoded,) = tokenizer.encode([text])
    assert tokenizer.backend.decode(list(encoded)) == text


def test_the_default_corpus_is_two_whole_novels() -> None:
    stream = read_stream(default_sources(), load_tokenizer("bpe-32768"))
    assert stream.num_docs == 2
    assert stream.num_bytes == sum(Path(path).stat().st_size for path in default_sources())
    assert stream.doc_starts[-1] == stream.num_tokens
    assert int(stream.tokens.max()) < stream.vocab_size


def test_ids_are_those_of_the_library_document_by_document(tmp_path: Path) -> None:
    lines = ["One sentence.", "", "Another, longer sentence.", "Third"]
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    backend = HfTokenizer.from_file(str(embedded_dir() / "tokenizers/bpe-4096/tokenizer.json"))
    stream = read_stream([str(path)], load_tokenizer("bpe-4096"))
    expected = [backend.encode(line, add_special_tokens=False).ids for line in lines if line]
    documents = np.split(stream.tokens, stream.doc_starts[1:-1])
    assert [document.tolist() for document in documents] == expected


def test_vocab_size_is_the_larger_of_config_and_largest_id(tmp_path: Path) -> None:
    source = embedded_dir() / "tokenizers/bpe-4096/tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    assert load_tokenizer(str(tmp_path)).vocab_size == 4096
    (tmp_path / "config.json").write_text('{"vocab_size": 5000}')
    assert load_tokenizer(str(tmp_path)).vocab_size == 5000
    (tmp_path / "config.json").write_text('{"vocab_size": 100}')
    assert load_tokenizer(str(tmp_path)).vocab_size == 4096


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": 3}', "not json"])
def test_what_is_not_a_tokenizer_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json: is not a tokenizer"):
        load_tokenizer(str(path))


def test_an_id_beyond_the_cap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 4_000_000_000}, "unk_token": "a"}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    with pytest.raises(InputError, match=r"id \d{10} is beyond|is not a tokenizer"):
        load_tokenizer(str(path))


def test_bin_files_are_ids_and_each_is_a_document(tmp_path: Path) -> None:
    np.array([1, 2, 3], dtype="<u2").tofile(tmp_path / "a.bin")
    np.array([4, 5], dtype="<u2").tofile(tmp_path / "b.bin")
    stream = read_bin([str(tmp_path)], dtype="uint16", vocab_size=6)
    assert stream.tokens.tolist() == [1, 2, 3, 4, 5]
    assert stream.doc_starts.tolist() == [0, 3, 5]


def test_bad_bin_files_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x01\x02\x03")
    with pytest.raises(InputError, match="3 bytes is no whole number of uint16"):
        read_bin([str(path)], dtype="uint16", vocab_size=10)
    np.array([1, 9, 2], dtype="<u2").tofile(path)
    with pytest.raises(InputError, match="id 9 at index 1 is not below --vocab-size 9"):
        read_bin([str(path)], dtype="uint16", vocab_size=9)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_bin([str(path)], dtype="uint16", vocab_size=9)
    with pytest.raises(UsageError, match="int8"):
        read_bin([str(path)], dtype="int8", vocab_size=9)


def test_ids_and_text_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x01\x00")
    (tmp_path / "a.txt").write_text("text")
    assert is_bin([str(tmp_path / "a.bin")])
    assert not is_bin([str(tmp_path / "a.txt")])
    with pytest.raises(UsageError, match="mixes"):
        is_bin([str(tmp_path / "a.bin"), str(tmp_path / "a.txt")])
