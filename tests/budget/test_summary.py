"""The report of a budget is made from its record alone."""

import json

import pytest

from ngscale import presets
from ngscale.budget import build, report
from ngscale.design import read_design
from ngscale.records import RunRecord, dump_json

EVIDENCE = ("loss_differences", "rules", "laws", "curve_anchors")


def record_of(name: str) -> RunRecord:
    design = read_design(presets.resolve(name))
    return build(design, target=name, config_sha256="0" * 64, dtype="bf16")


@pytest.mark.parametrize("name", presets.names())
def test_a_report_can_be_made_from_the_saved_record(name: str) -> None:
    record = record_of(name)
    saved = json.loads(dump_json(record.document()))
    read_back = RunRecord(
        verb=saved.pop("verb"),
        answer=saved.pop("answer"),
        inputs=saved.pop("inputs"),
        results=saved,
    )
    assert report(read_back) == report(record)


def test_lites_report_has_every_part() -> None:
    made = report(record_of("longcat-flash-lite"))
    assert made.title == "Parameter budget of longcat-flash-lite"
    assert made.answer == record_of("longcat-flash-lite").answer
    assert [table.name for table in made.tables] == [
        "groups",
        "active",
        "trade",
        "tables",
        "rows",
        "memory",
        "flops",
        "placement",
        "tiers",
        "anchors",
        "arithmetic",
        "warnings",
        *EVIDENCE,
    ]


def test_the_last_row_of_the_groups_is_their_sum() -> None:
    groups = report(record_of("longcat-flash-lite")).tables[0]
    *parts, total = groups.rows
    assert total["parameters"] == sum(row["parameters"] for row in parts) == 68_562_465_024
    assert total["bytes"] == sum(row["bytes"] for row in parts)
    assert all(row["parameters"] for row in parts)


def test_a_report_without_tables_leaves_their_parts_out() -> None:
    made = report(record_of("longcat-flash-chat"))
    assert [table.name for table in made.tables] == [
        *("groups", "active"),
        *("memory", "flops", "arithmetic"),
        *EVIDENCE,
    ]
    figure, *_ = made.figures
    assert [series.label for series in figure.panels[0].series] == ["this design"]


def test_bars_compare_the_design_with_its_equivalent() -> None:
    figure, *_ = report(record_of("longcat-flash-lite")).figures
    (panel,) = figure.panels
    assert panel.x_ticks is not None
    here, equivalent = panel.series
    assert {here.style, equivalent.style} == {"bar"}
    tables, experts = panel.x_ticks.index("ngram tables"), panel.x_ticks.index("experts")
    assert here.y[tables] == pytest.approx(45.81, abs=0.005)
    assert equivalent.y[tables] == 0
    assert equivalent.y[experts] == pytest.approx(here.y[tables] + here.y[experts], abs=0.1)
