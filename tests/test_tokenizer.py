import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from ngscale.corpus import embedded_dir
from ngscale.errors import InputError, NetworkError, UsageError
from ngscale.tokenizer import _NEVER, MAX_VOCAB_SIZE, RankEngine, load_tokenizer
from tests.documents import read_documents
from tests.tokenizer_files import MERGES, SPLIT, ranked, write_json, write_ranks, write_tekken


@pytest.mark.parametrize(("name", "size"), [("bpe-32768", 32_768), ("bpe-4096", 4_096)])
def test_embedded_tokenizers_have_exactly_their_ids_and_lose_nothing(name: str, size: int) -> None:
    tokenizer = load_tokenizer(name)
    assert tokenizer.vocab_size == size
    ids = tokenizer.backend.get_vocab(with_added_tokens=True)
    assert sorted(ids.values()) == list(range(size))
    assert ids["<|endoftext|>"] == 0
    text = 'It is a truth universally acknowledged, "that"\n\nna\u00efve \U0001f600 \x00 \u00a3.'
    (encoded,) = tokenizer.encode([text])
    assert tokenizer.backend.decode(encoded.tolist()) == text


def test_vocab_size_is_the_larger_of_config_and_largest_id(tmp_path: Path) -> None:
    source = embedded_dir() / "tokenizers/bpe-4096/tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(source.read_bytes())
    assert load_tokenizer(str(tmp_path)).vocab_size == 4096
    for config, size in [
        ('{"vocab_size": 5000}', 5000),
        ('{"vocab_size": 100}', 4096),
        ('{"text_config": {"vocab_size": 6000}}', 6000),
    ]:
        (tmp_path / "config.json").write_text(config)
        assert load_tokenizer(str(tmp_path)).vocab_size == size


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    truncation = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    write_json(path, truncation=truncation, pre_tokenizer={"type": "Whitespace"})
    (encoded,) = load_tokenizer(str(path)).encode(["a b a"])
    assert encoded.tolist() == [0, 1, 0]


def test_tekken_ids_are_ranks_after_the_special_ids(tmp_path: Path) -> None:
    write_tekken(tmp_path / "tekken.json", num_special=10, vocab_size=270)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.vocab_size == 270
    assert tokenizer.name == tmp_path.name
    (encoded,) = tokenizer.encode(["the and 7"])
    assert encoded.dtype == np.uint32
    the, an, d = 10 + 256 + MERGES.index(b"the"), 10 + 256 + MERGES.index(b"an"), 10 + ord("d")
    assert the == 267
    assert an == 269, "the last rank that fits; ' and' and its like do not"
    assert encoded.tolist() == [the, 10 + ord(" "), an, d, 10 + ord(" "), 10 + ord("7")]
    with pytest.raises(UsageError, match=r"rank file; this needs a tokenizer\.json"):
        _ = tokenizer.backend


def test_a_rank_file_is_known_by_its_name(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(write_ranks(tmp_path / "cl100k_base.tiktoken")))
    assert tokenizer.vocab_size == 100_277, "with its special ids, which the file does not list"
    (encoded,) = tokenizer.encode([" the"])
    assert encoded.tolist() == [256 + MERGES.index(b" the")]
    with pytest.raises(InputError, match="does not say how it splits text; known by name are"):
        load_tokenizer(str(write_ranks(tmp_path / "mine.tiktoken")))


RANKS = {token: rank for rank, token in enumerate(ranked())}
PLAIN = tiktoken.Encoding("plain", pat_str=SPLIT, mergeable_ranks=RANKS, special_tokens={})
FAST = RankEngine(
    backend=tiktoken.Encoding(
        "fast", pat_str=SPLIT, mergeable_ranks=RANKS, special_tokens={_NEVER: len(RANKS)}
    ),
    version="",
)


@given(st.lists(st.one_of(st.text(), st.sampled_from([_NEVER, _NEVER[:5], " the and"]))))
def test_the_fast_route_gives_the_ids_of_the_plain_one(pieces: list[str]) -> None:
    text = "".join(pieces)
    (encoded,) = FAST.encode([text])
    assert encoded.tolist() == PLAIN.encode_ordinary(text)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": 3}', "not json"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tekken.json", "cl100k_base.tiktoken"])
def test_what_is_not_a_tokenizer_is_refused_by_name(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=name.replace(".", r"\.") + ": "):
        load_tokenizer(str(path))


def test_an_id_beyond_the_cap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 4_000_000_000}, "unk_token": "a"}
    write_json(path, model=model)
    ranks = write_ranks(tmp_path / "cl100k_base.tiktoken")
    ranks.write_bytes(ranks.read_bytes() + b"YWJj 4000000000\n")
    tekken = write_tekken(tmp_path / "tekken.json", vocab_size=4_000_000_001)
    for file in (path, ranks, tekken):
        with pytest.raises(
            InputError, match=f"id 4000000000 is beyond the cap of {MAX_VOCAB_SIZE}"
        ):
            load_tokenizer(str(file))


def test_rank_files_that_lose_text_or_contradict_themselves_are_refused(tmp_path: Path) -> None:
    path = write_ranks(tmp_path / "o200k_base.tiktoken")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7] + lines[8:]))
    with pytest.raises(InputError, match="no token for byte 7"):
        load_tokenizer(str(path))
    path.write_bytes(b"".join([*lines, b"YWJj 3\n"]))
    with pytest.raises(InputError, match="two tokens have the same rank"):
        load_tokenizer(str(path))
    path.write_bytes(b"".join([*lines, b"YWJj\n"]))
    with pytest.raises(InputError, match=f"line {len(lines) + 1} is no base64 token and rank"):
        load_tokenizer(str(path))


def test_a_panic_of_the_library_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    write_json(path, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    done = subprocess.run(
        [sys.executable, "-m", "ngscale", "collisions", "--tokenizer", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "is not a tokenizer.json" in done.stderr


def test_a_directory_without_a_tokenizer_names_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="by name: bpe-32768, bpe-4096, tekken"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(InputError, match="only a SentencePiece"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_of_the_hub_is_downloaded_or_a_network_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="hf://nobody/nothing: cannot be reached"):
        load_tokenizer("hf://nobody/nothing")
    with pytest.raises(InputError, match="is no hub id"):
        load_tokenizer("hf://a/b/c/d")
    write_json(tmp_path / "tokenizer.json")
    (tmp_path / "config.json").write_text('{"vocab_size": 9}')
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repository, file: str(tmp_path / file)
    )
    tokenizer = load_tokenizer("hf://owner/name")
    assert (tokenizer.name, tokenizer.vocab_size) == ("owner/name", 9)


def test_a_closed_stderr_is_no_obstacle(tmp_path: Path) -> None:
    code = (
        "import os; os.close(2); from ngscale.tokenizer import load_tokenizer as l; l('bpe-4096')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ.copy())


def test_a_built_tokenizer_and_corpus_go_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path))
    for load in (lambda: load_tokenizer("tekken"), lambda: read_documents(["english"])):
        with pytest.raises(InputError, match="not built yet; run: ngscale corpora build"):
            load()
    (tmp_path / "tokenizers/tekken").mkdir(parents=True)
    write_tekken(tmp_path / "tokenizers/tekken/tekken.json")
    (tmp_path / "corpora/english").mkdir(parents=True)
    (tmp_path / "corpora/english/a.jsonl").write_text(json.dumps({"text": "a"}))
    assert load_tokenizer("tekken").name == "tekken"
    assert read_documents(["english"]) == ["a"]
