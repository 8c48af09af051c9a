"""Names are text: in pages, READMEs and figures, on the terminal, in JSON."""

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale import report as report_module
from ngscale.cli import app
from ngscale.printable import printable
from ngscale.records import Figure, Panel, Report, RunRecord, Section, Series, environment
from ngscale.report import write_report
from tests.plan.small import write_config
from tests.reliability.pages import Page, check_figure, check_markdown, check_page

INJECTIONS = (
    "<script>alert(1)</script>",
    "</title></style></pre><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "--><svg onload=alert(1)><!--",
    "<iframe srcdoc='&lt;script&gt;alert(1)&lt;/script&gt;'>",
    "<a href=javascript:alert(1)>x</a>",
    "![x](https:evil.example) [y](javascript:alert)",
    "{{ 7*7 }}{% for x in y %}${alert(1)} $x^$ $\\frac$",
    "&lt;script&gt;alert(1)&lt;script&gt; ]]><b>",
    "\x1b]0;owned\x07\x1b[2J\u202e<base href=https:evil>",
    "a\n```\n<meta http-equiv=refresh content='0;url=https:evil'>",
)
HARMLESS = "name"
PLACES = ("model", "file", "corpus")


def command(place: str, name: str, directory: Path) -> list[str]:
    """A run that is told of ``name`` as a model's, a file's or a corpus's; ``/`` in it parts
    directories, as a shell would have it.
    """
    where = directory / name
    where.parent.mkdir(parents=True, exist_ok=True)
    if place == "model":
        (directory / "made").mkdir()
        Path(write_config(directory / "made")).parent.rename(where)
        return ["audit", str(where)]
    if place == "file":
        golden = json.loads((Path(__file__).parents[1] / "golden" / "vectors.json").read_text())
        where.write_text(json.dumps({**golden, "vectors": golden["vectors"][:1]}))
        return ["ids", "--check", str(where)]
    text = where.with_name(f"{where.name}.txt")
    text.write_text("It is a truth universally acknowledged. " * 100)
    options = ("--sizes", "65537", "--orders", "2", "--tokenizer", "bpe-4096")
    return ["collisions", "--corpus", str(text), *options]


def written(place: str, name: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    out, argv = directory / "out", command(place, name, directory)
    argv += ["--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["ngscale", *argv])
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.stderr
    for stream in (done.stdout, done.stderr):
        assert stream == printable(stream)
    return out


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The report of a run with a name of letters."""

    @functools.cache
    def of(place: str) -> Path:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(report_module, "can_draw", lambda: False)
            return written(place, HARMLESS, tmp_path_factory.mktemp(place), monkeypatch)

    return of


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", INJECTIONS)
def test_a_name_is_text_wherever_it_stands(
    name: str,
    place: str,
    harmless: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The page has the tags of a harmless name's page, and shows the name as it is."""
    monkeypatch.setattr(report_module, "can_draw", lambda: False)
    out = written(place, name, tmp_path, monkeypatch)
    page = check_page((out / "report.html").read_text("utf-8"))
    plain = Page((harmless(place) / "report.html").read_text("utf-8"))
    assert page.outline == plain.outline
    last = name.rpartition("/")[2]
    assert printable(last) in page.text
    argv = json.loads((out / "environment.json").read_text("utf-8"))["argv"]
    assert printable(shlex.join(argv)).replace("\n", "\\n") in page.text
    readme = check_markdown((out / "README.md").read_text("utf-8"))
    assert {tag for tag, _ in readme.outline} <= {
        *{tag for tag, _ in check_markdown((harmless(place) / "README.md").read_text()).outline},
        *("em", "strong", "code", "br"),
    }
    record = json.loads((out / "record.json").read_text("utf-8"))
    assert last in record["answer"] or json.dumps(last)[1:-1] in json.dumps(record["inputs"])


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_label_of_a_figure_is_text(name: str, tmp_path: Path) -> None:
    series = (Series(label=name, x=[0, 1], y=[1, 2]), Series(label="b", x=[0], y=[1], style="bar"))
    panel = Panel(title=name, x_label=name, y_label=name, series=series, x_ticks=(name, "b"))
    figure = Figure(name="figure", caption=name, panels=(panel,))
    section = Section(heading=name, paragraphs=(name,), figures=(figure,))
    report = Report(title=name, answer=name, sections=(section,))
    record = RunRecord(verb="v", answer=name, inputs={}, results={})
    page = write_report(report, record, environment([name]), tmp_path)
    (drawn,) = check_page(page.read_text("utf-8")).figures
    assert drawn == (tmp_path / "figures" / "figure.svg").read_bytes()
    check_figure(drawn)
    check_markdown((tmp_path / "README.md").read_text("utf-8"))


def test_a_name_that_is_no_unicode_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """POSIX names are bytes; what is no UTF-8 is an escape, on the page and in the record."""
    monkeypatch.setattr(report_module, "can_draw", lambda: False)
    name = os.fsdecode(b"latin-\xe9")
    out = written("corpus", name, tmp_path, monkeypatch)
    assert r"latin-\udce9.txt" in check_page((out / "report.html").read_text("utf-8")).text
    record = json.loads((out / "record.json").read_text("utf-8"))
    assert record["inputs"]["corpus"]["name"] == f"{name}.txt"
    (tmp_path / "again").mkdir()
    argv = command("corpus", name, tmp_path / "again")
    done = CliRunner().invoke(app, [*argv, "--json"])
    assert json.loads(done.stdout)["inputs"] == record["inputs"]


@pytest.mark.parametrize(
    "html",
    [
        "<script>1</script>",
        "<img src=https://x.example/a.png>",
        "<img src=//x.example/a.png>",
        "<p style='background:url(https://x.example)'>",
        "<style>@import 'https://x.example/a.css';</style>",
        "<a href='javascript:alert(1)'>x</a>",
        "<p onclick=alert(1)>",
        "<link rel=stylesheet href=a.css>",
    ],
)
def test_the_check_finds_what_it_looks_for(html: str) -> None:
    with pytest.raises(AssertionError):
        check_page(html)
