"""``ngscale cache`` from the outside: the answer, the record, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ngscale.cache import run as runs
from ngscale.cache.measure import Measured, Source, measure
from ngscale.cache.scopes import Scope
from ngscale.cache.trace import Order, rows_of_text
from ngscale.cli import app
from ngscale.commands.source import read_source
from ngscale.compressed_ids import compressed_ids
from ngscale.ngram_config import read_specs
from ngscale.presets import resolve
from ngscale.tokenizer import load_tokenizer
from tests import reference

LITE = "longcat-flash-lite"
SHORT = ("--tokens", "3K")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cache", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def lite() -> dict[str, Any]:
    return document(LITE, *SHORT)


def test_the_answer_names_a_cache_and_the_slowest_tier(lite: dict[str, Any]) -> None:
    answer = lite["answer"]
    assert answer.startswith("longcat-flash-lite on 3,000 tokens of emma.txt, pride_and_prejudice")
    new = lite["scopes"][-1]["new_share"]
    assert f"{new:.2%} of the reads are of rows never read before" in answer
    assert "an LRU cache misses" in answer
    assert "nvme-pm9a3 saturates first" in lite["answer"]
    assert "(not validated)" in lite["answer"]


def test_the_curve_is_that_of_a_simulated_cache(lite: dict[str, Any]) -> None:
    """Of all tables and of one order, at a size in the middle."""
    stream, _ = read_source(None, None)
    specs = read_specs(resolve(LITE))
    rows = np.concatenate(list(rows_of_text(stream, specs, Order(max_tokens=3000))))
    for scope, tables in (("all tables", range(12)), ("3-grams", range(4, 8))):
        (found,) = (one for one in lite["scopes"] if one["scope"] == scope)
        trace = [
            (table, row)
            for position in rows[:, tables].tolist()
            for table, row in enumerate(position)
        ]
        point = found["curve"][20]
        names = {key: i for i, key in enumerate(dict.fromkeys(trace))}
        numbers = [names[key] for key in trace]
        half = len(numbers) // 2
        misses = reference.lru_misses(numbers, point["pages"])
        misses -= reference.lru_misses(numbers[:half], point["pages"])
        assert point["lru"] == pytest.approx(misses / half, rel=1e-9)
        assert found["accesses"] == half


def test_hot_sets_are_never_better_than_in_hindsight(lite: dict[str, Any]) -> None:
    for scope in lite["scopes"]:
        for point in scope["curve"]:
            assert point["hindsight"] <= point["hot"] + 1e-9


def test_bytes_count_scales_and_pages() -> None:
    """256 columns in fp8 with a scale for every 32: 264 bytes a row."""
    found = document(LITE, *SHORT, "--row-dtype", "fp8_e8m0", "--rows-per-page", "4")
    assert (found["bytes_per_row"], found["bytes_per_page"]) == (264, 1056)


def test_anchors_are_those_of_the_budget(lite: dict[str, Any]) -> None:
    """EVIDENCE sec. 4; 16 rows of 100 ns a token, tokens/s without the table and with it."""
    published = ((9_031.62, 8_858.28), (6_315.52, 6_140.02))
    ratios = [16 * 100e-9 * fast / (fast / slow - 1) for fast, slow in published]
    assert [anchor["ratio"] for anchor in lite["anchors"]] == pytest.approx(ratios)
    assert all(1 / 3 < ratio < 3 for ratio in ratios)
    validated = {tier["name"]: tier["validated"] for tier in lite["tiers"]}
    assert validated == {"hbm-h100": False, "host-thread": True, "nvme-pm9a3": False}


def test_a_report_has_its_figures_and_data(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    turns = ("--concurrency", "8", "--request-tokens", "100")
    assert run(LITE, *SHORT, *turns, "--out", str(tmp_path)).exit_code == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert (tmp_path / "README.md").read_text().splitlines()[0] == record["answer"]
    figures = {path.name for path in (tmp_path / "figures").glob("*.svg")}
    assert figures == {"miss_ratio.svg", "policies.svg", "working_set.svg", "reuse.svg"}
    assert (tmp_path / "data" / "curves.csv").is_file()


def test_a_saved_trace_gives_the_same_curves(tmp_path: Path, lite: dict[str, Any]) -> None:
    stream, _ = read_source(None, None)
    rows = np.concatenate(
        list(rows_of_text(stream, read_specs(resolve(LITE)), Order(max_tokens=3000)))
    )
    np.save(tmp_path / "rows.npy", rows)
    assert document(LITE, "--trace", str(tmp_path / "rows.npy"))["scopes"] == lite["scopes"]


def test_samples_come_with_intervals(lite: dict[str, Any]) -> None:
    found = document(LITE, *SHORT, "--sample", "0.5")
    exact = {scope["scope"]: scope for scope in lite["scopes"]}
    for scope in found["scopes"]:
        assert scope["accesses"] == exact[scope["scope"]]["accesses"]
        last, known = scope["curve"][-1], exact[scope["scope"]]["curve"][-1]
        assert last["lru_half_width"] > 0
        assert abs(last["lru"] - known["lru"]) < 3 * last["lru_half_width"]


def test_bytes_missed_to_a_tier_are_rows_missed_to_it(lite: dict[str, Any]) -> None:
    """256 columns in bf16; the tiers after the first are asked for its misses."""
    for tier in lite["tiers"]:
        assert tier["bytes_asked"] == pytest.approx(512 * tier["rows_asked"])
    first, second, third = lite["tiers"]
    assert second["rows_asked"] == pytest.approx(first["rows_asked"] - first["rows_served"])
    assert third["rows_asked"] == pytest.approx(second["rows_asked"] - second["rows_served"])
    assert {device["tier"] for device in lite["devices"]} >= {"nvlink-h100", "nvme-pm9a3"}


def test_every_table_of_lite_is_beyond_32_bit_offsets(lite: dict[str, Any]) -> None:
    """10.2 million rows x 256 columns (config.json of LongCat-Flash-Lite) against 2**31."""
    assert len(lite["offsets"]) == 13
    assert all(one["wide"] for one in lite["offsets"])
    assert lite["offsets"][0]["elements"] == (78 * 131_072 + 1) * 256


def test_flags_are_those_of_the_model_and_carry_a_size(lite: dict[str, Any]) -> None:
    assert lite["engine_flags"] == []
    qwen = document("qwen3.8-flash-next", *SHORT, "--miss-ratio", "0.95")
    needed = qwen["scopes"][-1]["smallest"][0]["lru_bytes"]
    flags = {flag["engine"]: flag["flag"] for flag in qwen["engine_flags"]}
    assert flags["MTPLX"] == f"MTPLX_NGRAM_HOT_MB={-(-needed // 10**6)}"
    assert flags["SGLang"] == "--ple-offload-embedding"


def test_a_smaller_tokenizer_is_told(tmp_path: Path) -> None:
    result = run("qwen3.8-flash-next", *SHORT, "--miss-ratio", "0.95", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    told = "The text has 32,768 ids and the design hashes 248,320"
    assert told in (tmp_path / "README.md").read_text()


def test_compressed_ids_are_hashed_where_a_design_wants_them() -> None:
    """Engram merges tokens of equal normal form: rows are those of the merged ids."""
    found = document("deepseek-v4.1-flash", *SHORT)
    stream, _ = read_source(None, None)
    merged = compressed_ids(load_tokenizer("bpe-32768").backend)
    assert found["inputs"]["ids"] == merged.max() + 1 < 32_768
    specs = read_specs(resolve("deepseek-v4.1-flash"))
    (rows,) = rows_of_text(
        replace(stream, tokens=merged[stream.tokens[:3000]]), specs, Order(max_tokens=3000)
    )
    assert found["scopes"][-1]["accesses"] == 1500 * 48
    second = {(table, row) for pos in rows[1500:].tolist() for table, row in enumerate(pos)}
    assert found["scopes"][-1]["distinct_pages"] == len(second)


def test_an_interrupted_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lite: dict[str, Any]
) -> None:
    """Killed at the orders, after every table: 130, and then the record of a whole run."""
    arguments = (LITE, *SHORT, "--ranks", "3")
    with monkeypatch.context() as patched:
        patched.setattr(runs, "measure", _until_orders)
        assert run(*arguments).exit_code == 130
    result = run(*arguments, "--json")
    assert "12 parts of 17 were there already" in result.stderr
    resumed = json.loads(result.stdout)
    assert resumed["scopes"] == lite["scopes"]
    again = document(*arguments)
    assert {**again, "environment": None} == {**resumed, "environment": None}


def _until_orders(rows: Source, scope: Scope, **options: Any) -> Measured:
    if scope.kind != "table":
        raise KeyboardInterrupt
    return measure(rows, scope, **options)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nobody",), 3, "no such file"),
        (("deepseek-v3",), 3, "deepseek_v3"),
        ((LITE, "--trace", "rows.npy", "--corpus", "x"), 2, "takes no --corpus"),
        ((LITE, "--trace", "rows.npy", "--concurrency", "2"), 2, "order of its own"),
        ((LITE, "--trace", "nowhere.npy"), 3, "no whole .npy"),
        ((LITE, "--lookahead", "2"), 2, "goes with --concurrency"),
        ((LITE, "--sample", "0"), 2, "above 0"),
        ((LITE, "--miss-ratio", "0.1,1.5"), 2, "shares between 0 and 1"),
        ((LITE, "--miss-ratio", "few"), 2, "shares between 0 and 1"),
        ((LITE, "--tier", "hbm-h100=0", "--tier", "nvme-pm9a3"), 2, "amount of memory"),
        ((LITE, "--tier", "nvme-pm9a3:bandwidth=-1"), 2, "a device can have"),
        ((LITE, "--tokens", "1"), 9, "no two halves"),
        ((LITE, "--tokens", "4K", "--max-memory", "1K"), 6, "--sample"),
        ((LITE, *SHORT, "--max-memory", "nothing"), 2, "amount of memory"),
        ((LITE, "--tier", "hbm-h100=1K", "--tier", "nvme-pm9a3:latency=0"), 2, "device can have"),
        ((LITE, *SHORT, "--tier", "hbm-h100=1", "--tier", "nvme-pm9a3"), 2, "than one page of 512"),
        ((LITE, *SHORT, "--concurrency", "9"), 2, "has 1 sequences; cut its documents"),
        ((LITE, "--request-tokens", "1K"), 2, "goes with --concurrency"),
    ],
)
def test_mistakes_are_one_line_and_their_code(
    arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert [line for line in result.stderr.splitlines() if "error" in line] == [
        result.stderr.splitlines()[-1]
    ]
