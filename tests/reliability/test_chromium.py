"""Reports in a browser: no console error, nothing fetched or run, every figure visible."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngscale.records import read_record
from ngscale.report import write_report
from reports.render import build_report, directories
from tests.reliability.browser import CHROMIUM, Browser, is_blank
from tests.reliability.inputs import ANALYSES, OTHER_REPORTS, filled, write_inputs
from tests.reliability.program import Program
from tests.test_report import RECORD, small_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

RUNS: dict[str, tuple[str, ...]] = {
    **ANALYSES,
    **OTHER_REPORTS,
    "probe norms": ("{checkpoint}", "--corpus", "{text}", "--tokens", "40"),
    "decode": (
        *("{checkpoint}", "--corpus", "{text}", "--device", "cpu", "--draft", "lookup"),
        *("--sequences", "2", "--batch", "2", "--new-tokens", "4", "--prompt-tokens", "8"),
    ),
    "train-small": (
        *("{config}", "--corpus", "{text}", "--tokens", "1024", "--seeds", "1"),
        *("--device", "cpu"),
    ),
    "plan": (
        *("{config}", "--corpus", "{text}", "--tokens", "1024", "--seeds", "1"),
        *("--candidates", "1", "--device", "cpu"),
    ),
}
"""Every verb that writes a report."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("home")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
    with Program(checkout, tmp_path_factory.mktemp("runs"), environ) as running:
        yield running


def look(browser: Browser, page: Path, num_figures: int) -> None:
    seen = browser.open(page)
    assert seen.errors == []
    assert seen.requests == []
    assert seen.num_scripts == 0
    assert len(seen.images) == num_figures
    for image, pixels, hidden in zip(seen.images, seen.pixels, seen.hidden, strict=True):
        assert image["loaded"]
        assert image["width"] > 300
        assert not is_blank(pixels)
        assert is_blank(hidden)  # so the statistic tells a figure from its place


def test_a_page_of_hostile_names_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    made = {"argv": ["v", "<script>alert(1)</script>"], "versions": {}, "date": "", "machine": ""}
    page = write_report(small_report(), RECORD, made, tmp_path)
    look(browser, page, num_figures=1)


def test_trouble_is_seen(browser: Browser, tmp_path: Path) -> None:
    """An error, a request and a figure that is blank would each be found."""
    page = tmp_path / "page.html"
    blank = "<svg xmlns='http://www.w3.org/2000/svg' width='400' height='300'/>"
    page.write_text(
        f'<body><script>console.error("x"); f()</script><img src="gone.png">'
        f'<img style="width:400px;height:300px" src="data:image/svg+xml,{blank}">'
    )
    seen = browser.open(page)
    assert len(seen.errors) >= 2
    assert [one.rpartition("/")[2] for one in seen.requests] == ["gone.png"]
    assert seen.num_scripts == 1
    assert [image["loaded"] for image in seen.images] == [False, True]
    assert is_blank(seen.pixels[1])


@pytest.mark.slow
@pytest.mark.parametrize("directory", directories(), ids=lambda d: d.name)
def test_a_committed_report_rendered_anew(
    directory: Path, browser: Browser, tmp_path: Path
) -> None:
    record = read_record(directory / "record.json")
    report = build_report(record)
    made = json.loads((directory / "environment.json").read_text())
    look(browser, write_report(report, record, made, tmp_path), len(report.figures))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_fresh_report(name: str, browser: Browser, program: Program, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    out = tmp_path / "out"
    argv = [name.split()[0], *filled(RUNS[name], tmp_path), "--out", str(out)]
    done = program.run(*argv)
    assert done.code == 0, done.err
    pages = sorted(out.rglob("report.html"))
    assert pages
    for page in pages:
        look(browser, page, num_figures=len(list((page.parent / "figures").glob("*.svg"))))
    shutil.rmtree(out)
