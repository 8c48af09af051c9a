import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.corpus import default_sources

TEXT = " ".join(f"the {a} of the {b} and the {a}" for a in "xyzuvw" for b in "abcdefgh") * 5
SMALL = ["--tokenizer", "bpe-4096", "--ratio", "2:4", "--orders", "2:3"]


def invoke(*argv: str) -> Any:
    return CliRunner().invoke(app, ["collisions", *argv])


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


def test_the_default_finds_every_integer_multiple_and_says_so_first() -> None:
    """arXiv:2601.21204 sec. 3.1: 2-gram collisions spike near integer multiples of V0."""
    result = invoke("--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema_version"] == 1
    assert document["verb"] == "collisions"
    assert document["answer"].startswith("A 2-gram table of ")
    assert set(document) >= {"results", "peaks", "recommendation", "inputs", "environment"}
    by_key = {(r["order"], r["table_rows"]): r for r in document["results"]}
    base = document["inputs"]["base"]
    assert base == 32_768
    for multiple in (30, 31, 32, 33):
        for order in (2, 3, 4, 5):
            assert by_key[order, multiple * base]["excess"]["collisions"] > 3.0
        beside = by_key[2, multiple * base + 1]["excess"]["collisions"]
        assert 2.0 < beside < by_key[2, multiple * base]["excess"]["collisions"]
        assert by_key[4, multiple * base + 1]["excess"]["collisions"] < 1.1
    named = {(peak["order"], peak["name"]) for peak in document["peaks"]}
    assert {(2, f"{m} x V0") for m in (30, 31, 32, 33)} <= named
    far = max(
        (r for r in document["results"] if r["order"] == 2), key=lambda r: r["lattice_length"]
    )
    assert far["excess"]["collisions"] < 1.05


def test_a_result_holds_every_measure_beside_its_expectation(text: str) -> None:
    document = json.loads(invoke("--corpus", text, *SMALL, "--json").stdout)
    for result in document["results"]:
        assert result["distinct"] == result["occupied"] + result["collisions"]
        for key in ("occupied", "collisions", "colliding", "purity", "impurity"):
            assert key in result["expected"]
        assert result["impurity"] == pytest.approx(1 - result["purity"])


def test_explicit_sizes_are_exactly_the_ones_measured(text: str) -> None:
    argv = ["--corpus", text, "--tokenizer", "bpe-4096", "--orders", "2:2"]
    document = json.loads(invoke(*argv, "--sizes", "5000,4096", "--json").stdout)
    assert [r["table_rows"] for r in document["results"]] == [4096, 5000]


def test_a_target_supplies_its_own_tables_and_must_fit_the_tokenizer(
    text: str, tmp_path: Path
) -> None:
    config = {
        "model_type": "ngscale_moe",
        "vocab_size": 4096,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "moe_intermediate_size": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "ngram_vocab_size_ratio": 3.3,
        "emb_neighbor_num": 3,
        "emb_split_num": 2,
        "eos_token_id": 0,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    argv = [str(tmp_path), "--corpus", text, "--tokenizer", "bpe-4096"]
    document = json.loads(invoke(*argv, "--json").stdout)
    first = int(3.3 * 4096 + 1)
    assert [(r["order"], r["table_rows"]) for r in document["results"]] == [
        (2, first),
        (2, first + 2),
        (3, first + 4),
        (3, first + 6),
    ]
    refused = invoke(str(tmp_path), "--corpus", text)
    assert refused.exit_code == 2
    assert "32,768" in refused.stderr


def test_token_ids_need_no_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    np.random.default_rng(0).integers(0, 50, 2000).astype("<u2").tofile(path)
    argv = ["--corpus", str(path), "--orders", "2", "--ratio", "2:4", "--json"]
    assert invoke(*argv).exit_code == 2
    result = invoke(*argv, "--vocab-size", "50")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["inputs"]["base"] == 50
    assert "tokenizer" not in document["inputs"]


def test_the_report_is_complete_and_the_same_bytes_every_time(text: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ngscale", "collisions", "--corpus", text, *SMALL]
    for name, cpus in (("one", {0}), ("two", os.sched_getaffinity(0))):
        subprocess.run(
            [*command, "--out", str(tmp_path / name)],
            check=True,
            capture_output=True,
            preexec_fn=lambda cpus=cpus: os.sched_setaffinity(0, cpus),  # type: ignore[misc]
        )
    one, two = tmp_path / "one", tmp_path / "two"
    files = sorted(str(p.relative_to(one)) for p in one.rglob("*") if p.is_file())
    assert {
        "README.md",
        "record.json",
        "report.html",
        "environment.json",
        "data/results.csv",
        "figures/collisions.svg",
        "figures/collisions.png",
    } <= set(files)
    for name in files:
        first, second = (one / name).read_bytes(), (two / name).read_bytes()
        if name in ("README.md", "report.html"):
            marker = b"Reproduce:"
            first, second = first.split(marker)[0], second.split(marker)[0]
        if name != "environment.json":
            assert first == second, name
    record = json.loads((one / "record.json").read_text())
    assert (one / "README.md").read_text().splitlines()[0] == record["answer"]
    assert str(tmp_path) not in (one / "record.json").read_text()


@pytest.mark.parametrize(
    ("content", "named"), [("", "empty"), ("a", "no 2-gram")], ids=["empty", "one token"]
)
def test_a_corpus_without_ngrams_is_refused(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(content)
    result = invoke("--corpus", str(path), *SMALL)
    assert result.exit_code in (2, 3)
    assert named in result.stderr


def test_an_out_directory_that_cannot_be_made_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke("--corpus", text, *SMALL, "--out", str(tmp_path / "file" / "dir"))
    assert result.exit_code == 3
    assert "cannot be written" in result.stderr


def test_the_hit_rate_curve_is_its_own_answer(text: str, tmp_path: Path) -> None:
    argv = ["--corpus", text, "--tokenizer", "bpe-4096", "--hit-rate", "0.1", "--orders", "2:3"]
    argv += ["--sequence-length", "64", "--out", str(tmp_path / "out"), "--json"]
    result = invoke(*argv)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    for order in (2, 3):
        curve = [r["hit_rate"] for r in document["hit_rates"] if r["order"] == order]
        assert curve == sorted(curve)
        assert 0 < curve[0] <= curve[-1] <= 1
    assert (tmp_path / "out" / "figures" / "hit_rate.svg").exists()


def test_the_per_sequence_rule_and_other_schemes_run(text: str) -> None:
    argv = ["--corpus", text, *SMALL, "--json"]
    document = json.loads(
        invoke(
            *argv, "--rule", "per-sequence", "--sequences", "4", "--sequence-length", "128"
        ).stdout
    )
    assert document["inputs"]["rule"] == "per-sequence"
    assert document["results"][0]["purity"] is None
    assert document["peaks"]
    for scheme in (
        ["crc32"],
        ["murmur3", "--seed", "3"],
        ["ideal"],
        ["multiply-xor", "--multipliers", "23703573157769,20109073645365,8052911324071"],
    ):
        document = json.loads(invoke(*argv, "--scheme", *scheme).stdout)
        assert document["inputs"]["scheme"]["name"] == scheme[0]


def test_a_saving_is_measured_not_promised() -> None:
    document = json.loads(invoke("--sizes", "1081344", "--orders", "2", "--json").stdout)
    found = document["saving"]
    again = json.loads(
        invoke("--sizes", str(found["smaller_rows"]), "--orders", "2", "--json").stdout
    )
    assert again["results"][0]["purity"] == found["smaller_purity"] >= found["purity"]
    assert found["smaller_rows"] * 10 < found["table_rows"]


def test_sub_tables_are_measured_together_too() -> None:
    """PERFORMANCE-type result on our own text: consecutive odd sizes fail on the same bigrams,
    and no two bigrams are confused in all four (lcm of the sizes exceeds V0**2).
    """
    near = [78 * 32_768 + offset for offset in (1, 3, 5, 7)]
    far = [round((78.382 + 0.237 * k) * 32_768) | 1 for k in range(4)]
    shares = []
    for sizes in (near, far):
        argv = ["--orders", "2", "--table-rows", ",".join(map(str, sizes)), "--json"]
        (joint,) = json.loads(invoke(*argv).stdout)["joint"]
        assert joint["table_rows"] == sizes
        assert joint["identity_proven"]
        assert joint["identity_lost"] == 0
        shares.append(joint["sharing_all_share"])
    assert shares[0] > 30 * shares[1]


def test_saved_ngrams_are_a_target_and_give_the_same_tables(text: str, tmp_path: Path) -> None:
    argv = ["--corpus", text, *SMALL, "--json"]
    direct = json.loads(invoke(*argv, "--save-ngrams", str(tmp_path)).stdout)
    for order in (2, 3):
        saved = str(tmp_path / f"{order}-grams.parquet")
        again = json.loads(invoke(saved, "--ratio", "2:4", "--json").stdout)
        assert again["results"] == [r for r in direct["results"] if r["order"] == order]
    refused = invoke(str(tmp_path / "2-grams.parquet"), "--corpus", text)
    assert refused.exit_code == 2
    assert "takes no text" in refused.stderr


def test_memory_limit_and_policy_change_how_ngrams_are_counted(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path / "cache"))
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a", "b", "c"):
        (docs / f"{name}.txt").write_text(f"{name} {TEXT[:300]}")
    argv = ["--corpus", str(docs), *SMALL, "--json"]
    free = json.loads(invoke(*argv).stdout)
    limited = invoke(*argv, "--max-memory", "1G")
    assert json.loads(limited.stdout)["results"] == free["results"]
    assert (tmp_path / "cache" / "ngrams").is_dir()
    crossing = json.loads(invoke(*argv, "--policy", "no_eos").stdout)
    assert crossing["inputs"]["policy"] == "no_eos"
    assert crossing["results"][0]["distinct"] > free["results"][0]["distinct"]
    for bad in (
        ["--max-memory", "lots"],
        ["--policy", "none"],
        ["--policy", "no_eos", "--rule", "per-sequence"],
    ):
        assert invoke(*argv, *bad).exit_code == 2


def test_sharing_alone_gives_the_same_counts_and_leaves_the_rest_empty(text: str) -> None:
    argv = ["--corpus", text, *SMALL, "--json"]
    full = json.loads(invoke(*argv).stdout)
    fast = json.loads(invoke(*argv, "--metrics", "sharing").stdout)
    assert (full["inputs"]["metrics"], fast["inputs"]["metrics"]) == ("all", "sharing")
    assert fast["saving"] is None
    assert fast["peaks"]
    for whole, short in zip(full["results"], fast["results"], strict=True):
        for key in ("table_rows", "prime", "occupied", "collisions", "colliding", "token_weighted"):
            assert whole[key] == short[key]
            assert whole["expected"].get(key) == short["expected"].get(key)
        for key in ("purity", "impurity", "effective_rows", "max_row_share"):
            assert whole[key] is not None
            assert short[key] is None
    shown = invoke("--corpus", text, *SMALL, "--metrics", "sharing").stdout
    assert "Sizes by order" in shown
    assert "Traffic by order" not in shown
    refused = invoke(*argv, "--metrics", "sharing", "--scheme", "crc32")
    assert refused.exit_code == 2
    assert "--metrics sharing goes with" in refused.stderr


def test_an_exhaustive_sweep_is_surveyed_and_keeps_every_size(tmp_path: Path) -> None:
    import pyarrow.parquet

    path, base = tmp_path / "ids.bin", 2_000
    ids = np.minimum(np.random.default_rng(0).zipf(1.3, 20_000), base) - 1
    ids.astype("<u2").tofile(path)
    argv = ["--corpus", str(path), "--vocab-size", str(base), "--orders", "2:3", "--step", "1"]
    result = invoke(*argv, "--json", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["inputs"]["metrics"] == "sharing"
    assert document["answer"].startswith("Of all 6,001 sizes swept ")
    assert [found["order"] for found in document["survey"]] == [2, 3]
    assert len(document["results"]) < 2_000
    data = pyarrow.parquet.read_table(tmp_path / "out" / "data" / "every_size.parquet").to_pydict()
    assert data["table_rows"] == 2 * list(range(30 * base, 33 * base + 1))
    kept = dict(
        zip(zip(data["order"], data["table_rows"], strict=True), data["occupied"], strict=True)
    )
    for listed in document["results"]:
        assert kept[listed["order"], listed["table_rows"]] == listed["occupied"]
    some = ",".join(str(listed["table_rows"]) for listed in document["results"][:20])
    again = json.loads(invoke(*argv[:6], "--sizes", some, "--json").stdout)
    for alone, listed in zip(again["results"][:20], document["results"][:20], strict=True):
        assert alone["occupied"] == listed["occupied"]
        assert alone["token_weighted"] == listed["token_weighted"]


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    path = tmp_path / "ids.bin"
    (np.random.default_rng(0).random(60_000) ** 2 * 2_000).astype("<u2").tofile(path)
    return ["--corpus", str(path), "--vocab-size", "2000", "--orders", "2"]


def test_exhaustive_says_how_long_and_lists_all_of_sharing(
    ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path / "cache"))
    result = invoke(*ids, "--exhaustive", "--json")
    assert result.exit_code == 0, result.stderr
    assert "6,001 sizes of " in result.stderr
    assert "of processor time" in result.stderr
    document = json.loads(result.stdout)
    assert document["inputs"]["metrics"] == "occupied"
    assert "adaptive" not in document
    step = json.loads(invoke(*ids, "--step", "1", "--json").stdout)
    assert step["inputs"]["metrics"] == "sharing"
    for key in ("results", "survey", "peaks"):
        assert document[key] == step[key]
    assert all(result["colliding"] for result in document["results"])


def test_adaptive_counts_what_is_asked_for_and_tells_its_error(
    ids: list[str], tmp_path: Path
) -> None:
    import pyarrow.parquet

    argv = [*ids, "--adaptive", "--sizes", "61234,99999"]
    result = invoke(*argv, "--json", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    (told,) = document["adaptive"]
    assert told["num_exact"] + told["num_predicted"] == 6_002
    assert 0 < told["calibration"]["error_rms"] < 0.05
    assert {61_234, 99_999} <= {r["table_rows"] for r in document["results"]}
    assert all(r["colliding"] for r in document["results"])
    data = pyarrow.parquet.read_table(tmp_path / "out" / "data" / "every_size.parquet").to_pydict()
    assert sum(data["exact"]) == told["num_exact"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert f"{told['num_predicted']:,} are predicted" in page.splitlines()[0]
    assert f"of which {told['num_exact']:,} measured exactly" in page


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--exhaustive", "--adaptive"], "contradict"),
        (["--exhaustive", "--sizes", "5000"], "is for a range"),
        (["--adaptive", "--table-rows", "5000"], "is for a range"),
        (["--exhaustive", "--step", "2"], "--step 2 not"),
        (["--adaptive", "--metrics", "all"], "leave out --metrics all"),
        (["--adaptive", "--scheme", "crc32"], "--scheme longcat"),
        (["--adaptive", "--hit-rate", "30"], "--hit-rate"),
        (["--exhaustive", "--recommend"], "--recommend"),
        (["--exhaustive", "--ratio", "30:400"], "larger --step"),
    ],
)
def test_sweeps_of_every_size_that_cannot_be(ids: list[str], argv: list[str], named: str) -> None:
    if "30:400" in argv:
        ids = [*ids[:3], "65000", *ids[4:]]
    refused = invoke(*ids, *argv)
    assert refused.exit_code == 2
    assert named in refused.stderr


def test_the_papers_statements_and_the_nearest_primes_come_first() -> None:
    document = json.loads(invoke("--orders", "2:3", "--json").stdout)
    found = document["figure_3b"]
    assert found["spike_at_every_multiple"]
    assert found["spike_at_the_nearest_primes"]
    named = {entry["name"]: entry for entry in document["nearest_primes"] if entry["order"] == 2}
    assert set(named) == {f"{multiple} x V0" for multiple in (30, 31, 32, 33)}
    assert (named["32 x V0"]["offset_below"], named["32 x V0"]["offset_above"]) == (-3, 7)
    primes = {r["table_rows"] for r in document["results"] if r["prime"]}
    assert {entry["prime_above"] for entry in named.values()} <= primes


def test_a_target_brings_its_own_hash(text: str) -> None:
    result = invoke("modded-nanogpt", "--corpus", text, "--tokenizer", "bpe-4096", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["inputs"]["scheme"]["name"] == "multiply-xor-int32"
    assert [(r["order"], r["table_rows"]) for r in document["results"]] == [(2, 377_279)]


@pytest.mark.parametrize(
    ("target", "named"), [("blt", "ids below 260"), ("engram-demo", "compressed ids")]
)
def test_a_target_that_hashes_other_ids_is_refused(text: str, target: str, named: str) -> None:
    result = invoke(target, "--corpus", text, "--tokenizer", "bpe-4096")
    assert result.exit_code == 2
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def write_documents(path: Path) -> str:
    """Paragraphs of the embedded novels, one a document, as a .jsonl."""
    novels = [Path(source).read_text() for source in default_sources()]
    with path.open("w") as file:
        for paragraph in "\n\n".join(novels).split("\n\n"):
            if len(paragraph) > 400:
                file.write(json.dumps({"text": paragraph}) + "\n")
    return str(path)


def test_at_tokens_predicts_every_table_and_keeps_what_was_measured(tmp_path: Path) -> None:
    corpus = write_documents(tmp_path / "docs.jsonl")
    argv = ["--corpus", corpus, "--tokenizer", "bpe-4096", "--orders", "2:3", "--json"]
    argv += ["--sizes", "1000001,2000003"]
    plain = json.loads(invoke(*argv).stdout)
    assert "at_tokens" not in plain
    num_tokens = plain["inputs"]["corpus"]["num_tokens"]
    out = tmp_path / "out"
    document = json.loads(
        invoke(*argv, "--at-tokens", str(10 * num_tokens), "--out", str(out)).stdout
    )
    assert document["results"] == plain["results"]
    block = document["at_tokens"]
    assert (block["kind"], block["factor"]) == ("bands", 10.0)
    assert [(one["order"], one["table_rows"]) for one in block["tables"]] == [
        (order, rows) for order in (2, 3) for rows in (1_000_001, 2_000_003)
    ]
    for one, now in zip(block["tables"], plain["results"], strict=True):
        for key in ("distinct", "load", "occupied", "sharing", "purity"):
            assert one[key]["low"] < one[key]["value"] < one[key]["high"]
        assert one["distinct"]["value"] > now["distinct"]
        assert one["purity"]["value"] < now["expected"]["purity"]
        assert one["excess_at_sample"] == now["excess"]
    assert "10 times the corpus" in document["answer"]
    assert "## At " in (out / "README.md").read_text()
    assert len((out / "data" / "at_tokens.csv").read_text().splitlines()) == 5
    same = json.loads(invoke(*argv, "--at-tokens", str(num_tokens)).stdout)["at_tokens"]
    for one, now in zip(same["tables"], plain["results"], strict=True):
        assert one["distinct"]["value"] == now["distinct"]
        assert one["purity"]["value"] == pytest.approx(now["expected"]["purity"], rel=1e-10)


def test_at_tokens_beyond_its_factor_gives_bounds_and_no_prediction(tmp_path: Path) -> None:
    corpus = write_documents(tmp_path / "docs.jsonl")
    argv = ["--corpus", corpus, "--tokenizer", "bpe-4096", "--orders", "2", "--sizes", "20001"]
    document = json.loads(invoke(*argv, "--at-tokens", "10B", "--json").stdout)
    block = document["at_tokens"]
    assert (block["num_tokens"], block["kind"]) == (10**10, "bounds")
    (table,) = block["tables"]
    assert table["purity"] is None
    assert table["load"]["value"] is None
    assert "nothing is predicted" in document["answer"]
    assert "bounds" in invoke(*argv, "--at-tokens", "10B").stdout


def test_at_tokens_is_refused_where_documents_cannot_be_drawn_again(
    text: str, tmp_path: Path
) -> None:
    argv = ["--tokenizer", "bpe-4096", "--orders", "2", "--sizes", "20001"]
    few = invoke("--corpus", text, *argv, "--at-tokens", "1M")
    assert few.exit_code == 9
    assert "128 documents or more" in few.stderr
    corpus = ["--corpus", write_documents(tmp_path / "docs.jsonl")]
    less = invoke(*corpus, *argv, "--at-tokens", "100")
    assert less.exit_code == 2
    assert "already" in less.stderr
    for bad in (["many"], ["-5"], ["0"], ["1M", "--rule", "per-sequence"], ["1M", "--recommend"]):
        assert invoke(*corpus, *argv, "--at-tokens", *bad).exit_code == 2
    assert invoke(*corpus, *argv, "--save-ngrams", str(tmp_path)).exit_code == 0
    saved = invoke(str(tmp_path / "2-grams.parquet"), "--at-tokens", "1M")
    assert saved.exit_code == 2
    assert "give the --corpus" in saved.stderr
