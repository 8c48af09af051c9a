import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tokenizers import Tokenizer as HfTokenizer

from ngscale.corpus import default_sources, embedded_dir
from ngscale.errors import InputError, ResourceError, UsageError
from ngscale.tokens import TokenStream, is_bin, load_tokenizer, read_bin, read_stream
from tests.documents import read_documents
from tests.tokenizer_files import write_prefix_space, write_ranks


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


def write_jsonl(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def same(left: TokenStream, right: TokenStream) -> bool:
    return (
        np.array_equal(left.tokens, right.tokens)
        and np.array_equal(left.doc_starts, right.doc_starts)
        and (left.num_bytes, left.sha256()) == (right.num_bytes, right.sha256())
    )


def test_a_stored_stream_knows_its_hash_and_is_read_only(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["One sentence.", "", "Another."])
    stream = read_stream([str(path)], load_tokenizer("bpe-4096"), cache=tmp_path / "cache")
    assert stream.tokens.dtype == np.uint32
    assert isinstance(stream.tokens, np.memmap)
    assert not stream.tokens.flags.writeable
    assert stream.sha256() == replace(stream, known_sha256="").sha256()
    assert same(stream, read_stream([str(path)], load_tokenizer("bpe-4096")))


def test_the_same_content_is_never_tokenised_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, cache = load_tokenizer("bpe-4096"), tmp_path / "cache"
    path = write_jsonl(tmp_path / "a.jsonl", ["One sentence.", "Another."])
    first = read_stream([str(path)], tokenizer, cache=cache)

    def refuse(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr("ngscale.tokens._encoded", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", refuse)  # nor is an unchanged file hashed again
        assert same(first, read_stream([str(path)], tokenizer, cache=cache))
    moved = path.rename(tmp_path / "b.jsonl")
    assert same(first, read_stream([str(moved)], tokenizer, cache=cache))
    for changed in (["One sentence.", "Other."], ["One sentence."]):
        write_jsonl(moved, changed)
        with pytest.raises(AssertionError, match="tokenised again"):
            read_stream([str(moved)], tokenizer, cache=cache)
    with pytest.raises(AssertionError, match="tokenised again"):
        read_stream([str(moved)], load_tokenizer("bpe-32768"), cache=cache)


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    tokenizer, cache = load_tokenizer("bpe-4096"), tmp_path / "cache"
    path = write_jsonl(tmp_path / "a.jsonl", ["One sentence.", "Another."])
    first = read_stream([str(path)], tokenizer, cache=cache)
    (entry,) = (cache / "tokens").iterdir()
    expected = (first.tokens.tolist(), first.sha256())
    with (entry / "tokens.u32").open("r+b") as file:
        file.truncate(4)
    again = read_stream([str(path)], tokenizer, cache=cache)
    assert (again.tokens.tolist(), again.sha256()) == expected


SLOW_RUN = """
import sys, time
from pathlib import Path
from ngscale import token_cache
from ngscale.tokens import load_tokenizer, read_stream
token_cache.CHECKPOINT_S = 0
append = token_cache.Writer.append
def slowly(self, parts):
    append(self, parts)
    print(self.state.num_parts, flush=True)
    time.sleep(float(sys.argv[3]))
token_cache.Writer.append = slowly
read_stream([sys.argv[1]], load_tokenizer("bpe-4096"), cache=Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_and_ends_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    words = [f"w{number}" for number in range(500)]
    texts = [" ".join(random.choice(words, size)) for size in random.integers(0, 4000, 400)]
    texts.insert(200, " ".join(random.choice(words, 400_000)))
    path, cache = write_jsonl(tmp_path / "a.jsonl", texts), tmp_path / "cache"
    seen = []
    for num_chunks in (1, 2, 1):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_RUN, str(path), str(cache), "0.05"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(num_chunks):
            seen.append(int(process.stdout.readline()))
        process.kill()
        process.wait()
        process.stdout.close()
        names = [entry.name for entry in (cache / "tokens").iterdir()]
        assert [name.endswith(".partial") for name in names] == [True], "nothing passes for whole"
    assert seen == sorted(set(seen)), "each run went on where the one before had stopped"
    (partial,) = (cache / "tokens").iterdir()
    with (partial / "tokens.u32").open("ab") as file:
        file.write(b"torn")
    done = read_stream([str(path)], load_tokenizer("bpe-4096"), cache=cache)
    assert same(done, read_stream([str(path)], load_tokenizer("bpe-4096")))
    assert [entry.name[0] for entry in (cache / "tokens").iterdir()] != ["."]


def test_two_runs_at_once_make_one_entry(tmp_path: Path) -> None:
    path, cache = write_jsonl(tmp_path / "a.jsonl", ["word " * 300_000] * 8), tmp_path / "cache"
    command = [sys.executable, "-c", SLOW_RUN, str(path), str(cache), "0"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(map(bool, told)) == [False, True], "the second waited and found it made"


@pytest.mark.parametrize("name", ["bpe-4096", "tiny ranks", "prefix space"])
def test_long_documents_in_pieces_have_the_ids_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tokenizer = {
        "bpe-4096": lambda: load_tokenizer("bpe-4096"),
        "tiny ranks": lambda: load_tokenizer(str(write_ranks(tmp_path / "cl100k_base.tiktoken"))),
        "prefix space": lambda: load_tokenizer(str(write_prefix_space(tmp_path))),
    }[name]()
    text = read_documents(default_sources())[0][:200_000]
    whole = [text, "no place to cut" * 3000, "", "\n \n" * 5000, text[:3000]]
    path = write_jsonl(tmp_path / "a.jsonl", whole)
    expected = [ids.tolist() for ids in tokenizer.encode(whole) if len(ids)]
    for chars in (700, 4096, 50_000):
        monkeypatch.setattr("ngscale.tokens.PIECE_CHARS", chars)
        stream = read_stream([str(path)], tokenizer)
        documents = np.split(stream.tokens, stream.doc_starts[1:-1])
        assert [document.tolist() for document in documents] == expected
        plain = tmp_path / "a.txt"
        plain.write_text(text)
        assert read_stream([str(plain)], tokenizer).tokens.tolist() == expected[0]


def test_progress_is_told_all_bytes_of_the_files(tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / "a.jsonl", ["One."] * 999), tmp_path / "b.parquet"]
    table = pyarrow.table({"text": ["Two."] * 999})
    pyarrow.parquet.write_table(table, paths[1])
    told: list[int] = []
    read_stream([str(tmp_path)], load_tokenizer("bpe-4096"), advance=told.append)
    assert sum(told) == sum(path.stat().st_size for path in paths)


def test_bin_files_are_cached_too_and_blocks_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.arange(10, dtype="<u4").tofile(tmp_path / "a.bin")
    np.array([], dtype="<u4").tofile(tmp_path / "b.bin")
    np.arange(7, dtype="<u4").tofile(tmp_path / "c.bin")
    whole = read_bin([str(tmp_path)], dtype="uint32", vocab_size=10)
    monkeypatch.setattr("ngscale.tokens._BIN_BLOCK_IDS", 3)
    stored = read_bin([str(tmp_path)], dtype="uint32", vocab_size=10, cache=tmp_path / "cache")
    assert same(whole, stored)
    assert stored.doc_starts.tolist() == [0, 10, 17]
    with pytest.raises(InputError, match=r"a\.bin: id 9 at index 9 is not below --vocab-size 9"):
        read_bin([str(tmp_path)], dtype="uint32", vocab_size=9, cache=tmp_path / "cache")


def test_a_stretch_that_cannot_be_parted_is_refused_before_memory_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ngscale.tokens.PIECE_CHARS", 1000)
    monkeypatch.setattr("ngscale.tokens._MAX_PIECE_CHARS", 10_000)
    path, cache = write_jsonl(tmp_path / "a.jsonl", ["fine", "a" * 20_000]), tmp_path / "cache"
    with pytest.raises(ResourceError, match="without a place where bpe-4096 could part it"):
        read_stream([str(path)], load_tokenizer("bpe-4096"), cache=cache)
    assert not list((cache / "tokens").iterdir())
    write_jsonl(path, ["a" * 9_000, "\u8d77\u521d\u3002" * 20_000])
    assert read_stream([str(path)], load_tokenizer("bpe-4096"), cache=cache).num_docs == 2
