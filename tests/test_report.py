import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ngscale import report as report_module
from ngscale.errors import InputError
from ngscale.records import (
    Column,
    Figure,
    Panel,
    Report,
    RunRecord,
    Section,
    Series,
    Table,
    dump_json,
    environment,
    write_atomic,
)
from ngscale.report import write_report

HOSTILE = '<script>alert("x")</script> | & {{ 7*7 }}'


def small_report() -> Report:
    table = Table(
        name="rows",
        title=HOSTILE,
        columns=(Column(key="name", title="name"), Column(key="x", title="x", spec=".2f")),
        rows=[{"name": HOSTILE, "x": 1.5}, {"name": "b", "x": None}],
    )
    series = Series(label="s", x=[0, 1], y=[1, 2], low=[0, 1], high=[2, 3])
    bars = Series(label="b", x=[0, 1], y=[1, 2], style="bar")
    panels = (
        Panel(title="a", x_label="x", y_label="y", series=(series,), y_log=True),
        Panel(title="b", x_label="x", y_label="y", series=(bars,), x_ticks=("p", "q")),
    )
    figure = Figure(name="fig", caption=HOSTILE, panels=panels)
    section = Section(heading="H", paragraphs=(HOSTILE,), figures=(figure,), tables=(table,))
    return Report(title=HOSTILE, answer=f"Answer {HOSTILE}", sections=(section,))


RECORD = RunRecord(verb="v", answer="a", inputs={"k": 1}, results={"results": [1]})


def test_the_page_is_escaped_and_self_contained(tmp_path: Path) -> None:
    page = write_report(small_report(), RECORD, environment(["v"]), tmp_path).read_text()
    assert "<script" not in page
    assert "{{ 7*7 }}" in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert "data:image/svg+xml;base64," in page


def test_panels_of_the_same_series_share_a_legend(tmp_path: Path) -> None:
    (figure,) = small_report().sections[0].figures
    alike = replace(figure, name="alike", panels=(figure.panels[0],) * 2)
    section = Section(heading="H", figures=(figure, alike))
    report = replace(small_report(), sections=(section,))
    write_report(report, RECORD, environment(["v"]), tmp_path)
    legends = {
        name: (tmp_path / "figures" / f"{name}.svg").read_text().count('<g id="legend_')
        for name in ("fig", "alike")
    }
    assert legends == {"fig": 2, "alike": 1}


def test_without_matplotlib_there_are_tables_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "can_draw", lambda: False)
    write_report(small_report(), RECORD, environment(["v"]), tmp_path)
    assert not (tmp_path / "figures").exists()
    assert "pip install 'ngscale[report]'" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "data" / "rows.csv").read_text().splitlines()[0] == "name,x"


def test_records_are_strict_json() -> None:
    assert json.loads(dump_json(RECORD.document()))["schema_version"] == 1
    with pytest.raises(ValueError, match="Out of range"):
        dump_json({"x": float("nan")})


def test_a_failed_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="Read-only"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_columns_too_long_for_json_are_parquet_and_the_same_bytes(tmp_path: Path) -> None:
    import pyarrow.parquet

    columns = {"order": np.full(5, 2), "rows": np.array([7, 8, 9, 11, 2**31])}
    record = replace(RECORD, columns={"many": columns})
    for name in ("one", "two"):
        write_report(small_report(), record, environment(["v"]), tmp_path / name)
    one, two = (tmp_path / name / "data" / "many.parquet" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    read = pyarrow.parquet.read_table(one).to_pydict()
    assert read == {name: values.tolist() for name, values in columns.items()}
    assert "many" not in dump_json(record.document())
