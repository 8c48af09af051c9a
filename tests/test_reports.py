"""Committed evidence: what a report says is what its record says, rendered by today's code."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from ngscale import report as report_module
from ngscale.collisions.occupancy import Sharing
from ngscale.collisions.survey import survey
from ngscale.collisions.sweep import SharingSweep
from ngscale.records import Figure, Report, RunRecord, read_record
from ngscale.report import body_markdown, csv_bytes, write_report
from reports.render import ROOT, build_report, directories
from tests.reliability.pages import check_markdown, check_page

REPORTS = directories()


@pytest.mark.parametrize("directory", REPORTS, ids=lambda d: d.name)
def test_a_committed_report_is_its_record_rendered(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(directory / "record.json")
    report = build_report(record)
    readme = (directory / "README.md").read_text()
    assert readme.splitlines()[0] == record.answer
    body = body_markdown(report, with_figures=True)
    assert readme.split("\n---\n")[0].strip() == body.strip()
    for table in report.tables:
        committed = (directory / "data" / f"{table.name}.csv").read_bytes()
        assert committed == csv_bytes(table), table.name
        assert len(list(csv.reader(io.StringIO(committed.decode())))) == len(table.rows) + 1
    for name, config in report.configs.items():
        assert json.loads((directory / "configs" / f"{name}.json").read_text()) == config
    for figure in report.figures:
        assert (directory / "figures" / f"{figure.name}.svg").stat().st_size > 1000
    _check_page(directory, report, record, tmp_path, monkeypatch)


def _check_page(
    directory: Path,
    report: Report,
    record: RunRecord,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the committed figures: nothing is fetched from elsewhere, nothing runs."""

    def committed(figure: Figure) -> tuple[bytes, bytes]:
        return (directory / "figures" / f"{figure.name}.svg").read_bytes(), b""

    monkeypatch.setattr(report_module, "_draw", committed)
    made = json.loads((directory / "environment.json").read_text())
    page = check_page(write_report(report, record, made, out).read_text("utf-8"))
    assert len(page.figures) == len(report.figures)
    check_markdown((directory / "README.md").read_text("utf-8"))
    assert (out / "README.md").read_bytes() == (directory / "README.md").read_bytes()


SURVEYED = [directory for directory in REPORTS if (directory / "data/every_size.parquet").exists()]


@pytest.mark.parametrize("directory", SURVEYED, ids=lambda d: d.name)
def test_what_a_survey_says_is_what_its_data_say(directory: Path) -> None:
    record = read_record(directory / "record.json")
    data = pyarrow.parquet.read_table(directory / "data" / "every_size.parquet").to_pydict()
    data = {name: np.array(values) for name, values in data.items()}
    for told in record.results["survey"]:
        of_order = data["order"] == told["order"]
        swept = SharingSweep(
            order=told["order"],
            distinct=told["distinct"],
            occurrences=told["occurrences"],
            sizes=data["table_rows"][of_order],
            measured=Sharing(*(data[key][of_order] for key in Sharing._fields)),
        )
        found = survey(swept, record.inputs["base"], record.inputs["unit"])
        assert replace(record, results=dict(found.summary)).results == told


def test_every_report_is_in_the_log() -> None:
    log = (ROOT / "LOG.md").read_text()
    for directory in REPORTS:
        assert directory.name in log


def _needs_nothing_else(directory: Path) -> bool:
    """No corpus to build, no checkpoint to fetch, no half an hour of training."""
    made = json.loads((directory / "environment.json").read_text())
    if "program" in made or "--corpus" in made["argv"]:
        return False
    return made["argv"][0] not in ("probe", "train-small", "decode", "plan")


EMBEDDED = [directory for directory in REPORTS if _needs_nothing_else(directory)]


@pytest.mark.slow
@pytest.mark.parametrize("directory", EMBEDDED, ids=lambda d: d.name)
def test_the_printed_command_gives_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    argv = json.loads((directory / "environment.json").read_text())["argv"]
    argv[argv.index("--out") + 1] = str(tmp_path)
    subprocess.run([sys.executable, "-m", "ngscale", *argv], check=True, capture_output=True)
    names = ["record.json", *(str(p.relative_to(directory)) for p in directory.rglob("*.csv"))]
    for name in names:
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes(), name
