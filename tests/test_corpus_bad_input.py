"""Section of bad input: one line, the documented code, nothing left behind, whatever the chunks."""

import gzip
import io
import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.corpus import OnBadRecord, Reading
from ngscale.errors import InputError, UsageError
from ngscale.tokens import load_tokenizer, read_bin, read_stream
from tests.documents import read_documents


def zst(data: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


def parquet(column: object, name: str = "text") -> bytes:
    """A file of one column."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({name: column}), file)
    return file.getvalue()


def read(
    path: Path, policy: OnBadRecord = "error", block: int = 2**20
) -> tuple[list[str], Counter[str]]:
    """Whole documents of a file, and the counts of bad records."""
    reading = Reading(on_bad_record=policy, block_bytes=block)
    return read_documents([str(path)], reading), +reading.bad


def error_of(path: Path, policy: OnBadRecord = "error", block: int = 2**20) -> str:
    with pytest.raises(InputError) as caught:
        read(path, policy, block)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_compressed_files_give_the_same_documents(
    tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]
) -> None:
    texts = (
        ["na\u00efve \u0000 \U0001f600", "two\r\nlines", ""] if kind != "txt" else ["a\u00efb\r\n"]
    )
    plain = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), plain)
    elif kind == "jsonl":
        plain.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        plain.write_bytes(texts[0].encode())
    suffix = ".gz" if pack is gzip.compress else ".zst"
    packed = tmp_path / f"b.{kind}{suffix}"
    packed.write_bytes(pack(plain.read_bytes()))
    assert read(plain)[0] == read(packed)[0] == texts


def test_several_archives_in_one_file_are_one_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"ab") + gzip.compress(b"cd"))
    (tmp_path / "a.txt.zst").write_bytes(zst(b"ab") + zst(b"cd"))
    assert read(tmp_path / "a.txt.gz")[0] == read(tmp_path / "a.txt.zst")[0] == ["abcd"]


@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
@pytest.mark.parametrize("suffix", [".gz", ".zst", ""])
@pytest.mark.parametrize("cut", [0, 3, 100, -1])
@pytest.mark.parametrize("policy", ["error", "skip", "replace"])
def test_a_truncated_archive_is_an_error_under_every_policy(
    tmp_path: Path, kind: str, suffix: str, cut: int, policy: OnBadRecord
) -> None:
    if kind != "parquet" and not suffix:
        return  # plain text has no end mark
    plain = tmp_path / f"whole.{kind}"
    noise = random.Random(0).randbytes(300).hex()
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": [noise]}), plain)
    else:
        plain.write_text(json.dumps({"text": noise}) + "\n")
    data = plain.read_bytes()
    if suffix:
        data = gzip.compress(data) if suffix == ".gz" else zst(data)
    path = tmp_path / f"cut.{kind}{suffix}"
    path.write_bytes(data[:cut])
    assert "cannot be read" in error_of(path, policy)


@pytest.mark.parametrize("character", ["\u00e9", "\u20ac", "\U0001f600"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_character_may_be_cut_by_a_block_at_any_of_its_bytes(
    tmp_path: Path, character: str, suffix: str
) -> None:
    """Blocks of 64 bytes; before the cut 0 to 4 bytes of the character, which stands twice."""
    packs: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zst}
    pack = packs[suffix]
    for num_before in range(len(character.encode()) + 1):
        text = "x" * (64 - num_before) + 2 * character + "y" * 60
        path = tmp_path / f"a.txt{suffix}"
        path.write_bytes(pack(text.encode()))
        assert read(path, block=64) == ([text], Counter())
        path.write_bytes(pack(text.encode()[:64]))
        if 0 < num_before < len(character.encode()):
            assert f"byte {64 - num_before} is not UTF-8" in error_of(path, block=64)
        else:
            assert read(path, block=64) == ([text.encode()[:64].decode()], Counter())


BAD_TEXTS = {
    "first byte": (b"\xffabc", 0),
    "last byte": (b"abc\xff", 3),
    "cut short at the end": (b"abc\xe2\x82", 3),
    "inside a character": (b"ab\xe2\x82cd", 2),
    "a surrogate": (b"abc\xed\xa0\x80d", 3),
    "overlong": (b"a\xc0\x80", 1),
}


@pytest.mark.parametrize(("data", "offset"), BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 2**20])
def test_bytes_that_are_not_utf8_are_named_whatever_the_block(
    tmp_path: Path, data: bytes, offset: int, block: int
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert f"byte {offset} is not UTF-8" in error_of(path, block=block)
    assert read(path, "skip", block) == ([], Counter(skipped=1))
    mended = data.decode("utf-8", "replace")
    assert read(path, "replace", block) == ([mended], Counter(replaced=1))
    line = tmp_path / "a.jsonl"
    line.write_bytes(b'{"text": "fine"}\n{"text": "' + data + b'"}\n')
    assert f"byte {offset + 27} is not UTF-8" in error_of(line, block=block)
    assert read(line, "skip", block) == (["fine"], Counter(skipped=1))
    assert read(line, "replace", block) == (["fine", mended], Counter(replaced=1))


@given(data=st.binary(max_size=40), blocks=st.tuples(st.integers(1, 41), st.integers(1, 41)))
def test_no_result_depends_on_the_block_size(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, blocks: tuple[int, int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(data)

    def outcome(policy: OnBadRecord, block: int) -> object:
        try:
            return read(path, policy, block)
        except InputError as error:
            return str(error)

    for policy in ("error", "skip", "replace"):
        assert outcome(policy, blocks[0]) == outcome(policy, blocks[1])
    mended = data.decode("utf-8", "replace").removeprefix("\ufeff")
    assert outcome("replace", blocks[0]) == ([mended], Counter(replaced=1)) or outcome(
        "error", blocks[0]
    ) == ([mended], Counter())


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\xef\xbb\xbfb")
    assert read(path, block=1)[0] == ["a\ufeffb"]
    line = tmp_path / "a.jsonl"
    line.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\n{"text": "b"}')
    assert read(line)[0] == ["a", "b"]
    path.write_bytes("text".encode("utf-16"))
    assert "byte 0 is not UTF-8 (is it UTF-16?)" in error_of(path)


BAD_LINES = {
    "not JSON": b"{",
    "nested too deep": b"[" * 100_000,
    "a list": b"[1]",
    "no such key": b'{"body": "x"}',
    "null": b'{"text": null}',
    "a number": b'{"text": 3}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_without_text_is_named_or_counted(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    message = error_of(path)
    assert "line 2" in message
    assert "--on-bad-record" in message
    for policy in ("skip", "replace"):
        assert read(path, policy) == (["a", "b"], Counter(skipped=1))


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "\\ud83d\\ude00"}\n{"text": "x\\ud83d"}\n')
    assert "line 2 has half a surrogate pair" in error_of(path)
    assert read(path, "skip") == (["\U0001f600"], Counter(skipped=1))
    assert read(path, "replace") == (["\U0001f600", "x\ufffd"], Counter(replaced=1))


def test_bad_rows_of_parquet_are_records_and_bad_columns_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    column = pyarrow.array([b"a", b"\xff", None, b"b"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
    assert "row 2: byte 0 is not UTF-8" in error_of(path)
    assert read(path, "skip") == (["a", "b"], Counter(skipped=2))
    assert read(path, "replace") == (["a", "\ufffd", "b"], Counter(skipped=1, replaced=1))
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), path)
    assert "no column 'text'" in error_of(path, "skip")
    dictionary = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    pyarrow.parquet.write_table(pyarrow.table({"text": dictionary}), path)
    assert read(path)[0] == ["a", "b", "a"]


def line(value: str) -> bytes:
    """A sound line, and one whose text is ``value``, JSON or not."""
    return b'{"text": "fine"}\n{"text": ' + value.encode() + b"}\n"


NOISE = random.Random(0).randbytes(3000).hex().encode()
GZ, ZST = gzip.compress(NOISE, mtime=0), zst(NOISE)
MALFORMED: dict[str, tuple[str, bytes, str]] = {
    # name: (file name, bytes, what the error says)
    "empty": ("a.txt", b"", "the corpus is empty"),
    "a mark alone": ("a.txt", b"\xef\xbb\xbf", "the corpus is empty"),
    "two bytes of a mark": ("a.txt", b"\xef\xbb", "byte 0 is not UTF-8"),
    "UTF-16, little end first": ("a.txt", b"\xff\xfea\x00", "byte 0 is not UTF-8 (is it UTF-16?)"),
    "UTF-16, big end first": ("a.txt", b"\xfe\xff\x00a", "byte 0 is not UTF-8 (is it UTF-16?)"),
    "UTF-16 without a mark": ("a.txt", "na\u00efve".encode("utf-16-le"), "byte 4 is not UTF-8"),
    "UTF-32": ("a.txt", "a".encode("utf-32"), "byte 0 is not UTF-8"),
    "Latin-1": ("a.txt", "caf\u00e9 noir".encode("latin-1"), "byte 3 is not UTF-8"),
    "Windows-1252": ("a.txt", "\u201cso\u201d".encode("cp1252"), "byte 0 is not UTF-8"),
    "a byte that continues nothing": ("a.txt", b"ab\x80", "byte 2 is not UTF-8"),
    "five bytes a character": ("a.txt", b"a\xf8\x88\x80\x80\x80", "byte 1 is not UTF-8"),
    "beyond Unicode": ("a.txt", b"ab\xf4\x90\x80\x80", "byte 2 is not UTF-8"),
    "an overlong NUL": ("a.txt", b"a\xc0\x80", "byte 1 is not UTF-8"),
    "a high surrogate": ("a.txt", b"abc\xed\xa0\x80", "byte 3 is not UTF-8"),
    "a low surrogate": ("a.txt", b"abc\xed\xbf\xbf", "byte 3 is not UTF-8"),
    "a pair of surrogates": ("a.txt", b"\xed\xa0\xbd\xed\xb8\x80", "byte 0 is not UTF-8"),
    "one byte of four": ("a.txt", b"abc\xf0", "byte 3 is not UTF-8"),
    "two bytes of four": ("a.txt", b"abc\xf0\x9f", "byte 3 is not UTF-8"),
    "three bytes of four": ("a.txt", b"abc\xf0\x9f\x98", "byte 3 is not UTF-8"),
    "no JSON": ("a.jsonl", line("x"), "line 2 is not JSON"),
    "a line cut short": ("a.jsonl", line('"b"')[:-4], "line 2 is not JSON"),
    "two objects in a line": ("a.jsonl", b'{"text": "a"} {"text": "b"}', "line 1 is not JSON"),
    "lines that end in CR": ("a.jsonl", b'{"text": "a"}\r{"text": "b"}', "line 1 is not JSON"),
    "single quotes": ("a.jsonl", b"{'text': 'a'}", "line 1 is not JSON"),
    "UTF-16 lines": ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "byte 0 is not UTF-8"),
    "a list": ("a.jsonl", b'["a"]', "line 1 has no text in 'text'"),
    "a string": ("a.jsonl", b'"text"', "line 1 has no text in 'text'"),
    "another key": ("a.jsonl", b'{"content": "a"}', "line 1 has no text in 'text'; --text-field"),
    "null text": ("a.jsonl", line("null"), "line 2 has no text in 'text'"),
    "a whole number": ("a.jsonl", line("3"), "line 2 has no text in 'text'"),
    "a number": ("a.jsonl", line("1e999"), "line 2 has no text in 'text'"),
    "true": ("a.jsonl", line("true"), "line 2 has no text in 'text'"),
    "NaN": ("a.jsonl", line("NaN"), "line 2 has no text in 'text'"),
    "a list of texts": ("a.jsonl", line('["a"]'), "line 2 has no text in 'text'"),
    "an object": ("a.jsonl", line('{"text": "a"}'), "line 2 has no text in 'text'"),
    "a number of 5,000 digits": ("a.jsonl", line("9" * 5000), "line 2 is not JSON"),
    "lists within lists": ("a.jsonl", line("[" * 100_000), "line 2 is not JSON"),
    "half a pair": ("a.jsonl", line('"\\ud83d"'), "line 2 has half a surrogate pair"),
    "the other half": ("a.jsonl", line('"\\ude00"'), "line 2 has half a surrogate pair"),
    "a pair the wrong way round": (
        "a.jsonl", line('"\\ude00\\ud83d"'), "line 2 has half a surrogate pair"
    ),
    "no gzip": ("a.txt.gz", NOISE, "cannot be read"),
    "an empty gzip": ("a.txt.gz", b"", "an empty file is no gzip archive"),
    "a gzip's head": ("a.txt.gz", GZ[:5], "cannot be read"),
    "half a gzip": ("a.txt.gz", GZ[: len(GZ) // 2], "cannot be read"),
    "a gzip without its sum": ("a.txt.gz", GZ[:-8], "cannot be read"),
    "a gzip with another sum": ("a.txt.gz", GZ[:-8] + b"1234" + GZ[-4:], "cannot be read"),
    "a gzip with another length": ("a.txt.gz", GZ[:-4] + b"1234", "cannot be read"),
    "a gzip and more": ("a.txt.gz", GZ + b"more", "cannot be read"),
    "no zstd": ("a.jsonl.zst", NOISE, "cannot be read"),
    "an empty zstd": ("a.jsonl.zst", b"", "an empty file is no zstd archive"),
    "half a zstd": ("a.jsonl.zst", ZST[: len(ZST) // 2], "cannot be read"),
    "a zstd and more": ("a.txt.zst", ZST + b"more", "cannot be read"),
    "no parquet": ("a.parquet", NOISE, "cannot be read as parquet"),
    "an empty parquet": ("a.parquet", b"", "cannot be read as parquet"),
    "half a parquet": ("a.parquet", parquet(["a"])[:200], "cannot be read as parquet"),
    "a parquet's foot": ("a.parquet", parquet(["a"])[-200:], "cannot be read as parquet"),
    "a foot longer than the file": (
        "a.parquet", parquet(["a"])[:-8] + b"\xff\xff\xff\x7fPAR1", "cannot be read as parquet"
    ),
    "no text column": ("a.parquet", parquet(["a"], "body"), "no column 'text'; --text-field"),
    "whole numbers": ("a.parquet", parquet([1, 2]), "column 'text' holds int64, not text"),
    "texts in lists": ("a.parquet", parquet([["a"]]), "column 'text' holds list<"),
    "bytes": ("a.parquet", parquet([b"a"]), "column 'text' holds binary, not text"),
    "nulls alone": ("a.parquet", parquet(pyarrow.nulls(2)), "column 'text' holds null, not text"),
    "a null row": ("a.parquet", parquet(["a", None]), "row 2: is null in column 'text'"),
    "a row that is no text": (
        "a.parquet",
        parquet(pyarrow.array([b"a", b"b\xff"], pyarrow.binary()).view(pyarrow.string())),
        "row 2: byte 1 is not UTF-8",
    ),
    "a kind that is not known": ("a.pdf", b"%PDF", "not a corpus; known kinds"),
}  # fmt: skip


def refused(path: Path, problem: str, *options: str) -> None:
    """Exit 3, one line that names the file and the problem, nothing written."""
    out, cache = path.parent / "out", Path(os.environ["NGSCALE_CACHE"]) / "tokens"
    arguments = ["collisions", "--corpus", str(path), "--out", str(out), *options]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.stdout) == (3, ""), done.output
    (told,) = [row for row in done.stderr.splitlines() if row.startswith("error:")]
    assert path.name in told
    assert problem in told
    assert not out.exists()
    assert not list(cache.glob(".*"))


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_corpus_is_one_line_and_exit_3(tmp_path: Path, name: str) -> None:
    file, data, problem = MALFORMED[name]
    (tmp_path / file).write_bytes(data)
    refused(tmp_path / file, problem)


@pytest.mark.parametrize("name", MALFORMED)
def test_what_a_malformed_corpus_gives_does_not_depend_on_the_block(
    tmp_path: Path, name: str
) -> None:
    file, data, _ = MALFORMED[name]
    (tmp_path / file).write_bytes(data)

    def outcome(policy: OnBadRecord, block: int) -> object:
        try:
            return read(tmp_path / file, policy, block)
        except InputError as error:
            return str(error)

    policies: tuple[OnBadRecord, ...] = ("error", "skip", "replace")
    for policy in policies:
        assert len({repr(outcome(policy, block)) for block in (1, 2, 3, 5, 64, 2**20)}) == 1


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "gone.txt")


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # names of sockets are short


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "a directory": (Path.mkdir, "the directory has no .txt, .jsonl, .parquet file"),
    "a pipe": (os.mkfifo, "is not a regular file"),
    "a socket": (_socket, "is not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "a link to nothing": (_link, "cannot be read: No such file or directory"),
    "a link to itself": (_loop, "cannot be read: Too many levels of symbolic links"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_no_file_is_one_line_and_exit_3(tmp_path: Path, name: str) -> None:
    make, problem = PLACES[name]
    make(tmp_path / "a.txt")
    refused(tmp_path / "a.txt", problem)


def test_a_name_longer_than_names_are_is_one_line_and_exit_3(tmp_path: Path) -> None:
    refused(tmp_path / f"{'a' * 300}.txt", "cannot be read: File name too long")


def test_malformed_corpora_are_many() -> None:
    assert len(MALFORMED) + len(PLACES) + len(CHANGES) + 1 >= 36


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"OTHER")
    os.utime(path, ns=(0, 0))  # two writes may fall in one tick of the clock


def _replace(path: Path) -> None:
    (path.parent / "new").write_bytes(path.read_bytes())
    (path.parent / "new").replace(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "grown": _append,
    "shortened": lambda path: os.truncate(path, 10),
    "overwritten": _overwrite,
    "replaced": _replace,
    "removed": Path.unlink,
    "one more in the directory": lambda path: _append(path.with_name("b.txt")),
}


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_a_corpus_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, name: str, keeps: bool
) -> None:
    """Else its ids would be kept under the hash of another text, and be found again with that."""
    corpus, cache = tmp_path / "corpus", tmp_path / "cache" if keeps else None
    corpus.mkdir()
    path = corpus / "a.txt"
    text = b"some words " * 200_000  # more than a block
    path.write_bytes(text)
    num_told = 0

    def change(_: int) -> None:
        nonlocal num_told
        num_told += 1
        if num_told == 1:
            CHANGES[name](path)

    tokenizer = load_tokenizer("bpe-4096")
    with pytest.raises(InputError, match=r"corpus.*(changed while it was read|no .txt)"):
        read_stream([str(corpus)], tokenizer, cache=cache, advance=change)
    assert num_told
    for left in corpus.iterdir():
        left.unlink()
    path.write_bytes(text)
    stream = read_stream([str(corpus)], tokenizer, cache=cache)
    assert (stream.num_bytes, stream.num_docs) == (len(text), 1)


def test_a_file_of_ids_that_grows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(np.arange(100, dtype=np.uint16).tobytes())
    with pytest.raises(InputError, match=r"a\.bin: changed while it was read"):
        read_bin([str(path)], dtype="uint16", vocab_size=100, advance=lambda _: _append(path))


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(pyarrow, "OSFile", refuse)
    assert "cannot be read: " in error_of(path)
    assert "Permission denied" in error_of(path)


def test_hidden_files_and_unfinished_builds_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".name.partial").mkdir()
    (tmp_path / ".name.partial" / "part.txt").write_text("no")
    (tmp_path / ".a.txt").write_text("no")
    (tmp_path / "A.TXT").write_text("yes")
    assert read(tmp_path)[0] == ["yes"]


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="takes error, skip, replace"):
        Reading(on_bad_record="ignore")  # type: ignore[arg-type]


def _run(tmp_path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ngscale", "collisions", *argv, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NGSCALE_CACHE": str(tmp_path / "cache")},
        timeout=60,
    )


def test_a_process_ends_with_one_line_its_code_and_no_artefact(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    late = tmp_path / "late.jsonl"
    late.write_bytes(b'{"text": "some words here"}\n' * 200_000 + b"\xff\n")
    odd, beyond = tmp_path / "odd.bin", tmp_path / "beyond.bin"
    odd.write_bytes(b"123")
    beyond.write_bytes(b"\x01\x00\x09\x00")
    cases = [
        (["--corpus", str(empty)], "the corpus is empty"),
        (["--corpus", str(late)], "byte 5600000 is not UTF-8"),
        (["--corpus", str(odd), "--vocab-size", "9"], "no whole number of uint16 ids"),
        (["--corpus", str(beyond), "--vocab-size", "9"], "id 9 at index 1"),
    ]
    for argv, expected in cases:
        done = _run(tmp_path, *argv)
        assert done.returncode == 3, done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
        assert expected in errors[0]
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
        assert not [*(tmp_path / "cache").glob("tokens/*"), *(tmp_path / "cache").glob("tokens/.*")]


def test_counts_of_bad_records_reach_the_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one two three four five"}\n' * 50 + b'{"text": "x\xff"}\n{\n')
    argv = ["--corpus", str(path), "--orders", "2", "--sizes", "983041"]
    argv += ["--on-bad-record", "replace"]
    done = _run(tmp_path, *argv, "--json")
    assert done.returncode == 0, done.stderr
    corpus = json.loads(done.stdout)["inputs"]["corpus"]
    assert corpus["bad_records"] == {"skipped": 1, "replaced": 1}
    assert corpus["num_docs"] == 51


def long_line(directory: Path, num_words: int) -> Path:
    path = directory / "long.jsonl"
    path.write_bytes(b'{"text": "' + b"word " * num_words + b'"}\n{"text": "b"}\n')
    return path


def test_a_line_longer_than_a_block_is_one_document(tmp_path: Path) -> None:
    """Of 4 MB; the next test has one of 200."""
    path = long_line(tmp_path, 800_000)
    stream = read_stream([str(path)], load_tokenizer("bpe-4096"))
    assert (stream.num_docs, stream.num_bytes) == (2, 4_000_001)


@pytest.mark.slow
def test_a_line_of_200_megabytes_is_read_and_tokenised_in_bounded_memory(tmp_path: Path) -> None:
    path = long_line(tmp_path, 40_000_000)
    code = (
        "import resource, sys; from ngscale.tokens import load_tokenizer, read_stream; "
        "s = read_stream([sys.argv[1]], load_tokenizer('bpe-4096')); "
        "print(s.num_docs, s.num_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    num_docs, num_bytes, peak_kib = map(int, done.stdout.split())
    assert (num_docs, num_bytes) == (2, 200_000_001)
    assert peak_kib < 2**21, "five times the line itself"
