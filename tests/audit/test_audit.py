"""Findings on published designs, and that a proposed patch passes the audit that asked for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ngscale import presets
from ngscale.audit.findings import CODES, SEVERITIES
from ngscale.audit.outcome import audit
from ngscale.audit.subject import Subject
from ngscale.audit.summary import build_report, combine, combined_report
from ngscale.hashing.definition import row_ids_exact
from ngscale.ngram_config import read_specs


def results(name: str, **changes: Any) -> dict[str, Any]:
    """The audit of a preset."""
    return dict(audit(Subject.read(presets.resolve(name), name), **changes).results)


def of_config(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The audit of a config."""
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return dict(audit(Subject.read(path, "config.json")).results)


def codes(found: dict[str, Any], *severities: str) -> set[str]:
    wanted = severities or SEVERITIES
    return {f["code"] for f in found["findings"] if f["severity"] in wanted}


def longcat(ratio: float, vocab_size: int = 163_840, max_order: int = 2) -> dict[str, Any]:
    return {
        "architectures": ["LongcatCausalLM"],
        "vocab_size": vocab_size,
        "hidden_size": 4096,
        "oe_vocab_size_ratio": ratio,
        "oe_neighbor_num": max_order,
        "oe_split_num": 4,
        "eos_token_id": 2,
    }


def test_lites_structured_family_is_found() -> None:
    """HASHING 10 F2: (a, b) and (a + 78j, b + (2i+1)j) share a row of Lite's table i."""
    tables = results("longcat-flash-lite")["tables"]
    rules = [table["family"]["rule"] for table in tables[:4]]
    steps = ["b + j", "b + 3j", "b + 5j", "b + 7j"]
    assert rules == [f"(a, b) ~ (a + 78j, {step})" for step in steps]
    assert [table["shortest_vector"] for table in tables[:4]] == [[i, 78] for i in (1, 3, 5, 7)]
    assert all(len(table["family"]["examples"]) == 3 for table in tables[:4])


@pytest.mark.parametrize("name", presets.with_tables())
def test_example_pairs_share_the_row_the_definition_gives(name: str) -> None:
    spec = read_specs(presets.resolve(name))[0]
    for table in results(name)["tables"]:
        for pair in (table["family"] or {"examples": []})["examples"]:
            rows = [row_ids_exact(pair[key], spec)[-1] for key in ("first", "second")]
            assert rows[0][table["index"]] == rows[1][table["index"]] == pair["row"]
            assert pair["first"] != pair["second"]


def test_longcat_2_has_even_sizes_only() -> None:
    """HASHING 10 F1: all 16 moduli are even, gcd with 163,840 at least 2 and up to 256."""
    found = results("longcat-2.0")
    gcds = [table["gcd_with_base"] for table in found["tables"]]
    assert len(gcds) == 16
    assert min(gcds) == 2
    assert max(gcds) == 256
    (worst,) = [table for table in found["tables"] if table["gcd_with_base"] == 256]
    assert worst["reachable_rows_per_token"] == worst["rows"] // 256
    assert "base-gcd" in codes(found, "warn")
    assert "resonance" not in codes(found)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("longcat-flash-lite", [2, 3, 3]), ("longcat-2.0", [2, 3, 4, 4])],
)
def test_joint_injectivity_is_proven(name: str, needed: list[int]) -> None:
    """HASHING 12: the smallest k such that any k sub-tables of an order suffice."""
    orders = results(name)["orders"]
    assert [order["tables_needed"] for order in orders] == needed
    assert all(order["jointly_injective"] for order in orders)


@pytest.mark.parametrize(("ratio", "resonant"), [(28.8, True), (12.2, True), (59.604, False)])
def test_small_fractions_resonate_and_the_later_ratios_do_not(
    tmp_path: Path, ratio: float, resonant: bool
) -> None:
    """HASHING 11: 28.8 = 144/5 and 12.2 = 61/5 are bad, 59.604 and 100.567 avoid it."""
    assert ("resonance" in codes(of_config(tmp_path, longcat(ratio)))) is resonant
    assert "resonance" not in codes(of_config(tmp_path, longcat(100.567)))


@pytest.mark.parametrize("name", presets.with_tables())
def test_a_patch_passes_the_audit_that_asked_for_it(name: str, tmp_path: Path) -> None:
    found = results(name)
    sizes = {"resonance", "structured-sharing", "base-gcd", "identity-loss"}
    if found["patch"] is None:
        assert not codes(found) & (sizes - {"identity-loss"})
        return
    config = json.loads(presets.resolve(name).read_text()) | found["patch"]
    mended = of_config(tmp_path, config)
    assert not codes(mended, "warn", "error")
    assert [table["rows"] for table in mended["tables"]] == list(found["patched_table_rows"])


def test_a_design_that_lists_its_sizes_is_patched_in_its_own_keys(tmp_path: Path) -> None:
    listed = {"vocab_size": 1000, "oe_grams": [2, 2], "oe_vocab_sizes": [30_000, 31_001]}
    found = of_config(tmp_path, listed)
    assert set(found["patch"]) == {"oe_vocab_sizes"}
    assert not codes(of_config(tmp_path, listed | found["patch"]), "warn")
    explicit = longcat(30.0) | {"ngscale": {"table_rows": [163_840] * 4, "policy": "no_eos"}}
    patch = of_config(tmp_path, explicit)["patch"]
    assert patch["ngscale"]["policy"] == "no_eos"
    assert len(patch["ngscale"]["table_rows"]) == 4


def test_tables_that_lose_identity_come_with_a_witness(tmp_path: Path) -> None:
    listed = {"vocab_size": 1000, "oe_grams": [2], "oe_vocab_sizes": [30_347]}
    found = of_config(tmp_path, listed)
    assert "identity-loss" in codes(found, "warn")
    first, second = found["orders"][0]["witness"]
    assert first != second
    codes_of = [a * 1000 + b for a, b in (first, second)]
    assert codes_of[0] % 30_347 == codes_of[1] % 30_347


def test_more_rows_than_int32_counts_is_an_error(tmp_path: Path) -> None:
    found = of_config(tmp_path, longcat(5000.3))
    assert "int32-rows" in codes(found, "error")
    assert found["rows"] > 2**31


def test_what_implementations_disagree_on_is_told(tmp_path: Path) -> None:
    assert {"eos-reset", "fill-is-token", "word-scale", "fractional-ratio"} <= codes(
        results("longcat-2.0"), "info"
    )
    assert "joint-vocabulary" in codes(results("longcat-next"))
    assert "not-a-polynomial" in codes(results("qwen3.8-flash-next"))
    quiet = longcat(30.567) | {"ngscale": {"policy": "no_eos"}, "pad_token_id": 3}
    found = codes(of_config(tmp_path, quiet))
    assert "eos-reset" not in found
    assert "padding-row" in found
    assert "ignored-ids" in codes(of_config(tmp_path, quiet | {"oe_ignored_token_ids": [7]}))


def test_an_undecided_fill_is_an_error(tmp_path: Path) -> None:
    config = json.loads(presets.resolve("deepseek-v4.1-flash").read_text())
    del config["ngscale"]
    assert "fill-undecided" in codes(of_config(tmp_path, config), "error")
    assert "fill-undecided" not in codes(results("deepseek-v4.1-flash"))


def test_published_row_and_parameter_counts() -> None:
    """HASHING 1 and 9.2: V4.1 (384,006,168 + 384,016,682) x 256; Qwen 320,001,536 x 160; Lite
    122,683,536 rows x 256 and projections of 9,437,184; LongCat-2.0 134,978,871,296.
    """
    parameters = {name: results(name)["parameters"] for name in presets.with_tables()}
    assert parameters["deepseek-v4.1-flash"]["tables"] == (384_006_168 + 384_016_682) * 256
    assert parameters["qwen3.8-flash-next"]["tables"] == 51_200_245_760
    lite = {"tables": 31_406_985_216, "projections": 9_437_184}
    assert parameters["longcat-flash-lite"] == lite
    assert parameters["longcat-2.0"]["tables"] == 134_978_871_296


def test_sharding_is_checked_where_it_is_asked_for() -> None:
    assert "tp-rows" not in codes(results("longcat-flash-lite"))
    assert "tp-rows" in codes(results("longcat-flash-lite", tensor_parallel=8))


@pytest.mark.parametrize("name", presets.with_tables())
def test_every_code_is_documented_and_every_report_can_be_built(name: str) -> None:
    record = audit(Subject.read(presets.resolve(name), name))
    assert codes(dict(record.results)) <= set(CODES)
    report = build_report(record)
    assert report.answer.startswith(f"{name}: ")
    table = combined_report(combine([record])).tables[0]
    assert [row["target"] for row in table.rows] == [name]
