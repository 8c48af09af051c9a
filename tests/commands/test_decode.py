"""``ngscale decode`` on the command line: the record, bad input, taking up again."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.cli import app
from ngscale.design import Design
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.spec import longcat_spec
from tests.designs import policy_of

WORDS = ["the", "of", "and", "to", "a", "in", "that", "it", "was", "his", "with", "as"]


def invoke(*argv: object) -> Any:
    return CliRunner().invoke(app, ["decode", *map(str, argv)])


def small(directory: Path, vocab_size: int = 4096, *, tables: bool = True) -> Path:
    config = DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        moe_intermediate_size=8,
        num_experts=2,
        num_experts_per_tok=1,
    )
    spec = longcat_spec(
        vocab_size=vocab_size,
        max_order=3,
        num_subtables=1,
        table_rows=(301, 307),
        policy=policy_of(0),
    )
    design = Design(model=decoder_model(config), ngrams=(spec,) if tables else ())
    decoder = Decoder(design)
    decoder.initialise(0)
    save_decoder(decoder, design, directory)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, path = random.Random(0), tmp_path_factory.mktemp("text") / "text.jsonl"
    docs = [" ".join(rng.choices(WORDS, k=200)) for _ in range(300)]
    path.write_text("".join(json.dumps({"text": doc}) + "\n" for doc in docs))
    return path


SHORT = (
    *("--sequences", 2, "--batch", 2, "--new-tokens", 10, "--prompt-tokens", 12),
    *("--draft-lengths", "1,3", "--head-tokens", "4K", "--device", "cpu"),
)


def test_a_record_tells_what_drafts_gave(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    other = small(tmp_path / "other", tables=False)
    argv: list[object] = [checkpoint, "--corpus", text, *SHORT, "--early-rejection"]
    argv += ["--draft", "lookup", "--draft", "table", "--draft-model", other]
    argv += ["--out", tmp_path / "out", "--json"]
    done = invoke(*argv)
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    drafts = [(row["draft"], row["draft_length"]) for row in record["drafts"]]
    named = [(name, k) for name in ("lookup", "table", "model") for k in (1, 3)]
    assert drafts == [("none", 0), *named, ("table, no N-gram Cache", 3)]
    assert record["exact"]["equal"] == dict.fromkeys(("none", "lookup", "table", "model"), True)
    for row in record["drafts"]:
        assert row["num_accepted"] + row["num_verifications"] >= 20
        assert row["low"] <= row["tokens_per_verification"] <= row["high"]
    assert len(record["rejection"][0]["rejectors"]) == 6
    assert record["texts"][0]["largest_logit_difference"] < 1e-3
    page = (tmp_path / "out" / "README.md").read_text()
    assert record["answer"] in page
    again = json.loads(invoke(*argv).stdout)  # kept measurements: times are equal too
    for key in ("drafts", "rejection", "head"):
        assert again[key] == record[key]


def test_parts_of_a_step_are_timed_beside_the_moe(
    checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    argv = [checkpoint, "--isolate", "--batches", "2,1", "--context-tokens", 6]
    argv += ["--draft-lengths", "1,2", "--corpus", text, "--device", "cpu"]
    done = invoke(*argv, "--json", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["inputs"]["batches"] == [1, 2]
    assert {step["num_tokens"] for step in record["steps"]} == {1, 3}
    assert len(record["steps"]) == 3 * 2 * 2
    assert all(step["step_us"] > 0 for step in record["steps"])
    assert record["answer"] in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("--draft", "guess"), 2, "takes none, lookup, table, model"),
        (("--draft-lengths", "0"), 2, "takes numbers from 1"),
        (("--prompt-tokens", 1), 2, "takes 2 or more"),
        (("--top-p", 0), 2, "takes a share"),
        (("--dtype", "int3"), 2, "float32, bfloat16"),
        (("--device", "nonsense"), 2, "cannot be used here"),
        (("--isolate", "--batches", "0"), 2, "--batches 0: takes numbers from 1"),
        (("--isolate", "--context-tokens", 10**6), 2, "a window takes 1,000,004"),
        (("--sequences", 1000), 3, "fewer sequences"),
        (("--head", "missing.safetensors"), 3, "is no draft head"),
    ],
)
def test_bad_input_is_one_line_with_its_code(
    checkpoint: Path, text: Path, argv: tuple[object, ...], code: int, message: str
) -> None:
    done = invoke(checkpoint, "--corpus", text, *SHORT, *argv)
    assert done.exit_code == code, done.stderr
    assert message in done.stderr
    assert done.stderr.count("error:") == 1


def test_models_that_do_not_fit_are_refused(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    plain = small(tmp_path / "plain", tables=False)
    done = invoke(plain, "--corpus", text, *SHORT, "--draft", "table")
    assert (done.exit_code, "no n-gram tables" in done.stderr) == (2, True)
    other = small(tmp_path / "other", 5000)
    done = invoke(checkpoint, "--corpus", text, *SHORT, "--draft-model", other)
    assert (done.exit_code, "vocabulary of 5000" in done.stderr) == (3, True)
    path = tmp_path / "plain" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "max_position_embeddings": 20}))
    done = invoke(plain, "--corpus", text, *SHORT, "--draft", "lookup")
    assert (done.exit_code, "max_position_embeddings 20" in done.stderr) == (2, True)
    tiny = small(tmp_path / "tiny", 100)
    done = invoke(tiny, "--corpus", text, *SHORT, "--tokenizer", "bpe-4096", "--draft", "lookup")
    assert (done.exit_code, "vocabulary ends at 99" in done.stderr) == (3, True)
    done = invoke(tiny, "--corpus", text, *SHORT, "--tokenizer", "bpe-4096", "--draft", "model")
    assert (done.exit_code, "4096 ids" in done.stderr) == (3, True)
    done = invoke(tmp_path / "nothing", "--corpus", text)
    assert (done.exit_code, "no such directory" in done.stderr) == (3, True)
