"""``ngscale audit`` on the command line: exit codes, JSON, gates."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale import presets
from ngscale.cli import app

RUNNER = CliRunner()


def test_json_has_the_documented_keys() -> None:
    done = RUNNER.invoke(app, ["audit", "longcat-flash-lite", "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert {"tables", "orders", "findings", "patch", "schema_version"} <= set(document)
    table, order, finding = (document[key][0] for key in ("tables", "orders", "findings"))
    assert {
        "index",
        "order",
        "rows",
        "gcd_with_base",
        "reachable_rows_per_token",
        "nearest",
        "lattice_score",
    } <= set(table)
    assert {"p", "q", "offset"} <= set(table["nearest"])
    assert {"order", "jointly_injective", "tables_needed", "pairwise_gcd"} <= set(order)
    assert {"code", "severity", "message", "value", "fix"} <= set(finding)


@pytest.mark.parametrize(
    ("gate", "exit_code"),
    [("warn", 7), ("error", 0), ("resonance", 7), ("base-gcd,resonance", 7), ("int32-rows", 0)],
)
def test_gates(gate: str, exit_code: int) -> None:
    done = RUNNER.invoke(app, ["audit", "longcat-flash-lite", "--fail-on", gate])
    assert done.exit_code == exit_code
    assert done.stdout.startswith("longcat-flash-lite: ")
    if exit_code:
        assert done.stderr.startswith("error: --fail-on ")
        assert done.stderr.count("\n") == 1


def test_every_preset_with_tables_is_in_the_one_table() -> None:
    done = RUNNER.invoke(app, ["audit", "--all", "--json"])
    assert done.exit_code == 0
    targets = [entry["target"] for entry in json.loads(done.stdout)["audits"]]
    assert targets == presets.with_tables()


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        ([], 2, "either a TARGET or --all"),
        (["longcat-flash-lite", "--all"], 2, "either a TARGET or --all"),
        (["longcat-flash-lite", "--fail-on", "noise"], 2, "--fail-on noise: takes error, warn"),
        (["longcat-flash-chat"], 3, "has no n-gram tables"),
        (["nowhere.json"], 3, "nowhere.json: no such file"),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], exit_code: int, told: str) -> None:
    done = RUNNER.invoke(app, ["audit", *arguments])
    assert done.exit_code == exit_code
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_out_writes_the_report(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["audit", "longcat-2.0", "--tp", "8", "--out", str(tmp_path)])
    assert done.exit_code == 0
    assert (tmp_path / "README.md").read_text().startswith("longcat-2.0: ")
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["inputs"]["tensor_parallel"] == 8
    assert (tmp_path / "data" / "tables.csv").is_file()


def test_an_audit_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ngscale.cli import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['audit', '--all']).exit_code == 0; "
        "heavy = ('numba', 'torch', 'scipy', 'datasets', 'matplotlib', 'transformers'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
