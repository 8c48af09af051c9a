"""Tokenizer files that are malformed, hang or grow: one line, whatever their library does of it."""

import base64
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ngscale import tokenizer, tokenizer_trial
from ngscale.cli import app
from ngscale.errors import InputError
from ngscale.tokenizer import MAX_VOCAB_SIZE, load_tokenizer
from tests.reliability.forked import judge_all
from tests.tokenizer_files import write_json, write_prefix_space, write_ranks, write_tekken

Change = Callable[[bytes], bytes]
JSON, TEKKEN, RANKS = "tokenizer.json", "tekken.json", "cl100k_base.tiktoken"


def word_level(**model: object) -> bytes:
    """A tokenizer.json of words, whose model has these keys too."""
    words = {"type": "WordLevel", "vocab": {"a": 0, "[U]": 1}, "unk_token": "[U]"}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": words | model}).encode()


def with_parts(**parts: object) -> bytes:
    """The same with other parts than its model."""
    return json.dumps(json.loads(word_level()) | parts).encode()


def bpe(**model: object) -> bytes:
    pairs = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": pairs | model}).encode()


def unigram(**model: object) -> bytes:
    pieces = {"type": "Unigram", "vocab": [["<u>", 0.0], ["a", -1.0]], "unk_id": 0}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": pieces | model}).encode()


def precompiled(charsmap: bytes) -> dict[str, object]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}


def split(pattern: str) -> dict[str, object]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def tekken(**config: object) -> bytes:
    """A sound tekken.json with other keys in its config."""
    document = json.loads(tekken_of(256))
    return json.dumps({**document, "config": document["config"] | config}).encode()


def tekken_of(num_bytes: int, *extra: dict[str, Any]) -> bytes:
    vocab = [
        {"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode()} for i in range(num_bytes)
    ]
    config = {"pattern": ".", "default_vocab_size": 300, "default_num_special_tokens": 10}
    return json.dumps({"config": config, "vocab": [*vocab, *extra]}).encode()


def ranks(*lines: str) -> bytes:
    """A sound rank file, and these lines."""
    sound = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256)]
    return "".join(f"{line}\n" for line in [*sound, *lines]).encode()


MALFORMED: dict[str, tuple[str, bytes, str]] = {
    # tokenizer.json
    "nothing": (JSON, b"", "is not a tokenizer.json"),
    "cut off": (JSON, word_level()[:-20], "is not a tokenizer.json"),
    "not UTF-8": (JSON, word_level().replace(b'"a"', b'"\xff"'), "is not a tokenizer.json"),
    "UTF-16": (JSON, word_level().decode().encode("utf-16"), "is not a tokenizer.json"),
    "a leading mark": (JSON, b"\xef\xbb\xbf" + word_level(), "is not a tokenizer.json"),
    "a list": (JSON, b"[]", "is not a tokenizer.json"),
    "deep": (JSON, b'{"model":' * 100_000, "is not a tokenizer.json"),
    "no model": (JSON, b'{"version": "1.0", "added_tokens": []}', "is not a tokenizer.json"),
    "another version": (JSON, with_parts(version="9.9"), "is not a tokenizer.json"),
    "an unknown model": (JSON, word_level(type="None"), "is not a tokenizer.json"),
    "two models": (
        JSON,
        word_level().replace(b'"model":', b'"model": null, "model":'),
        "is not a tokenizer.json",
    ),
    "no words": (JSON, word_level(vocab={}), ": "),
    "a negative id": (JSON, word_level(vocab={"a": -1, "[U]": 0}), "is not a tokenizer.json"),
    "an id of 2^32": (JSON, word_level(vocab={"a": 2**32, "[U]": 0}), "is not a tokenizer.json"),
    "an id of text": (JSON, word_level(vocab={"a": "0", "[U]": 1}), "is not a tokenizer.json"),
    "an unknown word that is none": (JSON, word_level(vocab={"a": 0}), "is not a tokenizer.json"),
    "a merge of three": (JSON, bpe(merges=["a b c"]), "is not a tokenizer.json"),
    "a merge of nothing known": (JSON, bpe(merges=[["a", "x"]]), "is not a tokenizer.json"),
    "pieces without a score": (JSON, unigram(vocab=[["a"]]), "is not a tokenizer.json"),
    "an unknown piece beyond": (JSON, unigram(unk_id=7), "is not a tokenizer.json"),
    "a table of characters that is none": (
        JSON,
        with_parts(normalizer=precompiled(b"\0\0")),
        "is not a tokenizer.json",
    ),
    "a table of characters that ends": (
        JSON,
        with_parts(normalizer=precompiled(b"\xff\xff\xff\0\0\0\0\0")),
        "is not a tokenizer.json",
    ),
    "a regular expression that is none": (
        JSON,
        with_parts(pre_tokenizer=split("(")),
        "is not a tokenizer.json",
    ),
    "an unknown normaliser": (
        JSON,
        with_parts(normalizer={"type": "None"}),
        "is not a tokenizer.json",
    ),
    # tekken.json
    "tekken without config": (TEKKEN, b'{"vocab": []}', "config: must be an object"),
    "tekken without words": (TEKKEN, tekken_of(0), "has no token for byte 0"),
    "tekken without a byte": (TEKKEN, tekken_of(255), "has no token for byte 255"),
    "tekken of half ranks": (
        TEKKEN,
        tekken_of(256, {"rank": 256.5, "token_bytes": "YWI="}),
        "vocab[256]: must have a token of bytes and a rank from 0",
    ),
    "tekken without base64": (
        TEKKEN,
        tekken_of(256, {"rank": 256, "token_bytes": "Y*WI="}),
        "vocab[256]: must have base64 token_bytes",
    ),
    "tekken with a word twice": (
        TEKKEN,
        tekken_of(256, {"rank": 256, "token_bytes": "YQ=="}),
        "vocab[256]: has the token_bytes of another",
    ),
    "tekken without a pattern": (TEKKEN, tekken(pattern=None), "config.pattern: must be"),
    "tekken with a wrong pattern": (TEKKEN, tekken(pattern="("), "is not a tekken.json"),
    "tekken twice": (
        TEKKEN,
        tekken().replace(b'"pattern"', b'"pattern": ".", "pattern"'),
        "pattern: appears twice",
    ),
    # rank files
    "ranks of nothing": (RANKS, b"", "has no token for byte 0"),
    "a rank that is none": (RANKS, ranks("YWI= one"), "line 257 is no base64 token and rank"),
    "a rank of 1_000": (RANKS, ranks("YWI= 1_000"), "line 257 is no base64 token and rank"),
    "a rank twice": (RANKS, ranks("YWI= 3"), "two tokens have the same rank"),
    "a token twice": (RANKS, ranks("YQ== 300"), "line 257 has the token of another line"),
}


def refusal(path: Path) -> str:
    """The one line it is refused with."""
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(path))
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 450 + len(str(path))
    return line


def test_33_malformed_files_are_at_hand() -> None:
    assert len(MALFORMED) >= 33


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_one_line_without_a_panic(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name, data, problem = MALFORMED[case]
    (tmp_path / name).write_bytes(data)
    assert problem in refusal(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / JSON).write_bytes(MALFORMED["a table of characters that ends"][1])
    argv = ["collisions", "--tokenizer", str(tmp_path / JSON)]
    done = CliRunner().invoke(app, argv)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {tmp_path / JSON}: is not a tokenizer.json")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "largest", [MAX_VOCAB_SIZE, 2**31 - 1, 2**31, 4_000_000_000, 2**32 - 1, 2**40, 2**63]
)
@pytest.mark.parametrize("kind", ["words", "added", "tekken", "tekken of ranks", "ranks", "config"])
def test_ids_beyond_the_cap_are_refused(kind: str, largest: int, tmp_path: Path) -> None:
    added = {"id": largest, "content": "<x>", "special": True} | dict.fromkeys(
        ("single_word", "lstrip", "rstrip", "normalized"), False
    )
    files = {
        "words": (JSON, word_level(vocab={"a": largest, "[U]": 1})),
        "added": (JSON, with_parts(added_tokens=[added])),
        "tekken": (TEKKEN, tekken(default_vocab_size=largest + 1)),
        "tekken of ranks": (
            TEKKEN,
            tekken(default_vocab_size=largest + 1, default_num_special_tokens=largest - 255),
        ),
        "ranks": (RANKS, ranks(f"YWI= {largest}")),
        "config": (JSON, word_level()),
    }
    name, data = files[kind]
    (tmp_path / name).write_bytes(data)
    if kind == "config":
        (tmp_path / "config.json").write_text(json.dumps({"vocab_size": largest + 1}))
    if kind == "added" and largest < 2**32:  # the library gives the next id, whatever it says
        assert load_tokenizer(str(tmp_path)).vocab_size == 3
        return
    problem = f"id {largest} is beyond the cap"
    if kind in ("words", "added") and largest >= 2**32:
        problem = "is not a tokenizer.json"
    elif kind in ("tekken", "tekken of ranks", "config") and largest == 2**63:
        problem = ": must be "
    with pytest.raises(InputError) as caught:
        load_tokenizer(str(tmp_path / name))
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()


def doubling(number: int) -> bytes:
    """Every normaliser makes two letters of one."""
    twice = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return with_parts(normalizer={"type": "Sequence", "normalizers": [twice] * number})


def to_and_fro(number: int) -> bytes:
    """Makes a thousand letters of one and one of a thousand, so many times."""
    there = {"type": "Replace", "pattern": {"String": "a"}, "content": 1000 * "a"}
    back = {"type": "Replace", "pattern": {"String": 1000 * "a"}, "content": "a"}
    return with_parts(normalizer={"type": "Sequence", "normalizers": [there, back] * number})


def test_a_tokenizer_that_grows_without_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_trial, "FREE_BYTES", 2**26)
    (tmp_path / JSON).write_bytes(doubling(40))
    start = time.process_time()
    assert "MiB (status" in refusal(tmp_path / JSON)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("seconds", "number"), [(1, 2000), pytest.param(20, 16000, marks=pytest.mark.slow)]
)
def test_a_tokenizer_that_hangs_is_killed(
    seconds: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tokenizer_trial.SECONDS == 20
    monkeypatch.setattr(tokenizer_trial, "SECONDS", seconds)
    (tmp_path / JSON).write_bytes(to_and_fro(number))
    assert f"takes more than {seconds} s or " in refusal(tmp_path / JSON)


# -- mutations ---------------------------------------------------------------------------------

NUM_MUTATIONS = 2000
VALUES = [None, True, -1, 0, 1.5, 2**31, 4_000_000_000, 2**64, "", "a", "\0", [], {}, [1], {"a": 1}]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with every key in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    document = json.loads(data)
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        # one time in ten, what stands in long lists
        places = [p for p in _places(document) if len(p[0]) < 200 or draw.random() < 0.1]
        holder, key = draw.choice(places)
        act = draw.randrange(4)
        if act == 0:
            del holder[key]
        elif act == 1:
            other, there = draw.choice(places)
            if there in other if isinstance(other, dict) else there < len(other):
                holder[key] = json.loads(json.dumps(other[there]))
        else:
            holder[key] = draw.choice(VALUES)
        if isinstance(document, dict) and not document:
            break
    return json.dumps(document).encode()


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([0, 1, 1, 2])):
        place = draw.randrange(len(changed))
        changed[place : place + draw.choice([0, 1, 1, 5])] = draw.randbytes(draw.choice([0, 1, 1]))
    return bytes(changed)


def sound_files(directory: Path) -> dict[str, bytes]:
    """One of every kind that is read."""
    return {
        "words": write_json(directory / "words.json").read_bytes(),
        "prefix": write_prefix_space(directory).read_bytes(),
        "tekken": write_tekken(directory / TEKKEN).read_bytes(),
        "ranks": write_ranks(directory / RANKS).read_bytes(),
        "unigram": unigram(),
        "parts": with_parts(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}],
            },
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [split(r"\s+"), {"type": "Digits", "individual_digits": True}],
            },
            post_processor={
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "a", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"Sequence": {"id": "B", "type_id": 1}},
                ],
                "special_tokens": {"a": {"id": "a", "ids": [0], "tokens": ["a"]}},
            },
            truncation={
                "direction": "Right",
                "max_length": 4,
                "strategy": "LongestFirst",
                "stride": 0,
            },
            padding={
                "strategy": "BatchLongest",
                "direction": "Right",
                "pad_to_multiple_of": 8,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "a",
            },
        ),
    }


def test_mutations_are_read_or_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the trial: that no panic comes through is seen where one could."""
    monkeypatch.setattr(tokenizer, "try_out", lambda *args: None)
    sound = sound_files(tmp_path)
    names = {"tekken": TEKKEN, "ranks": RANKS}

    def judge(seed: int) -> str:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads are none of this process
        draw = random.Random(seed)
        kind = draw.choice(list(sound))
        mutate = mutate_bytes if kind == "ranks" or draw.random() < 0.2 else mutate_json
        path = tmp_path / str(seed) / names.get(kind, JSON)
        path.parent.mkdir()
        path.write_bytes(mutate(sound[kind], draw))
        start = time.process_time()
        try:
            load_tokenizer(str(path)).encode(["a the\u00e9\U0001f600", "", "b " * 50])
        except InputError as error:
            line = str(error)
            wanted = line.isprintable() and len(line) < 600 and line.startswith(str(path))
            return "refused" if wanted else f"{kind}: {line!r}"
        except BaseException as error:  # a panic is no Exception
            return f"{kind}: {type(error).__name__}: {error}"
        return "read" if time.process_time() - start < 1 else f"{kind}: takes more than a second"

    verdicts = Counter(judge_all(range(NUM_MUTATIONS), judge))
    assert set(verdicts) == {"read", "refused"}, verdicts
    assert min(verdicts.values()) >= NUM_MUTATIONS / 10, verdicts
    assert capfd.readouterr() == ("", "")
