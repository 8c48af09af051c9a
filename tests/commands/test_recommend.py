"""``ngscale collisions --recommend`` on the command line."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.row_counts import longcat_rows

SMALL = ["--tokenizer", "bpe-4096", "--orders", "2:3", "--subtables", "2"]


def invoke(*argv: str) -> Any:
    return CliRunner().invoke(app, ["collisions", "--recommend", *argv])


@pytest.fixture
def config(tmp_path: Path) -> str:
    """LongCat keys at an integer ratio of a small vocabulary."""
    path = tmp_path / "config.json"
    keys = {
        "architectures": ["LongcatCausalLM"],
        "vocab_size": 4096,
        "hidden_size": 64,
        "oe_vocab_size_ratio": 31,
        "oe_neighbor_num": 3,
        "oe_split_num": 2,
        "eos_token_id": 2,
    }
    path.write_text(json.dumps(keys))
    return str(path)


def test_a_corpus_ranks_the_proposals_and_the_sizes_in_use(config: str, tmp_path: Path) -> None:
    """On real text the sizes in use, 31 x V0 + 1 and + 3, have more impurity than any proposal,
    and leave twice as many token positions without a row of their own.
    """
    text = tmp_path / "text.txt"
    embedded = Path(__file__).parents[2] / "corpora" / "default"
    text.write_text("".join(path.read_text()[:400_000] for path in sorted(embedded.glob("*.txt"))))
    out = tmp_path / "report"
    arguments = [config, "--corpus", str(text), "--tokenizer", "bpe-4096", "--out", str(out)]
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    before = document["current"]["orders"]
    means = [fmean(o["impurity"] for o in p["orders"]) for p in document["proposals"]]
    assert means == sorted(means)
    assert means[-1] < fmean(order["impurity"] for order in before)
    shares = [p["orders"][0]["sharing_all_tokens_share"] for p in document["proposals"]]
    assert max(shares) < before[0]["sharing_all_tokens_share"] / 2
    assert document["current"]["table_rows"] == list(longcat_rows(31, 4096, 4))
    assert document["patch"] == document["proposals"][0]["patch"]
    (saving, *_) = document["savings"]
    assert saving["smaller_rows"] < saving["table_rows"]
    assert saving["smaller_purity"] >= saving["purity"]
    assert saving["bytes_saved"] == saving["rows_saved"] * (64 // 4) * 2
    assert (out / "README.md").read_text().startswith("Best on ")
    names = {path.name for path in (out / "configs").iterdir()}
    assert names == {f"{p['name'].replace(' ', '-')}.patch.json" for p in document["proposals"]}


def test_a_patched_config_passes_the_audit(config: str, tmp_path: Path) -> None:
    """Applied as the report says, key by key."""
    out = tmp_path / "report"
    document = json.loads(invoke(config, "--out", str(out), "--json").stdout)
    for proposal in document["proposals"]:
        name = proposal["name"].replace(" ", "-")
        patch = json.loads((out / "configs" / f"{name}.patch.json").read_text())
        assert patch == proposal["patch"]
        patched = tmp_path / name / "config.json"
        patched.parent.mkdir()
        patched.write_text(json.dumps(json.loads(Path(config).read_text()) | patch))
        found = CliRunner().invoke(app, ["audit", str(patched), "--fail-on", "error", "--json"])
        assert found.exit_code == 0, found.stdout
        assert json.loads(found.stdout)["tables"][0]["rows"] == proposal["table_rows"][0]


def test_without_a_corpus_the_score_alone_decides_and_says_so(config: str) -> None:
    document = json.loads(invoke(config, "--json").stdout)
    assert document["answer"].startswith("By the lattice score alone, without a corpus: ")
    assert all(not proposal["faults"] for proposal in document["proposals"])
    assert document["current"]["faults"]
    assert document["savings"] == []


@pytest.mark.parametrize(
    "budget",
    [
        ["--rows", "508000"],
        ["--params", "8.128M", "--hidden-size", "64"],
        ["--ratio", "31"],
    ],
)
def test_budgets(budget: list[str]) -> None:
    document = json.loads(invoke(*SMALL, *budget, "--json").stdout)
    for proposal in document["proposals"]:
        assert len(proposal["table_rows"]) == 4
        assert proposal["stored_rows"] <= 509_000
        assert proposal["stored_rows"] > 450_000


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (["--ratio", "31"], 2, "needs a target, a --tokenizer"),
        (SMALL, 2, "needs a budget"),
        ([*SMALL, "--rows", "1M", "--ratio", "31"], 2, "--rows and --ratio are both a budget"),
        ([*SMALL, "--params", "1M"], 2, "--params needs --hidden-size"),
        ([*SMALL, "--rows", "many"], 2, "many: is not a count"),
        ([*SMALL, "--ratio", "wide"], 2, "--ratio wide"),
        ([*SMALL, "--rows", "9000"], 9, "9,000 rows are too few for 4 tables"),
        ([*SMALL, "--rows", "500000", "--padding", "131072"], 9, "too few for 4 tables"),
        ([*SMALL, "--rows", "500000", "--family", "odd"], 2, "--family odd"),
        (["--orders", "3:4", "--vocab-size", "4096", "--rows", "1M"], 2, "every order from 2 on"),
        (["qwen3.8-flash-next"], 2, "no polynomial in one base"),
        (["longcat-flash-chat"], 3, "no n-gram tables"),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], exit_code: int, told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == exit_code
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
