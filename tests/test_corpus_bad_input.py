"""Section of bad input: one line, the documented code, nothing left behind, whatever the chunks."""

import gzip
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.corpus import OnBadRecord, Reading
from ngscale.errors import InputError, UsageError
from tests.documents import read_documents


def zst(data: bytes) -> bytes:
    return bytes(pyarrow.Codec("zstd").compress(data, asbytes=True))


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


def test_pipes_and_devices_are_refused_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    start = time.monotonic()
    assert "is not a regular file" in error_of(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match="the directory has no"):
        read(tmp_path)
    assert time.monotonic() - start < 1


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


@pytest.mark.slow
def test_a_line_of_200_megabytes_is_read_and_tokenised_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"text": "' + b"word " * 40_000_000 + b'"}\n{"text": "b"}\n')
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
