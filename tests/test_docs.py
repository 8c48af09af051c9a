"""Documents are generated from the program or run as printed."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ngscale.policy import Policy
from tests.printed import Block, check, parse, run, scripts, simple_commands, to_run, typed
from tests.test_cli import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "corpora" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "reports").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_document_is_one_that_the_program_takes(
    page: Path,
) -> None:
    for text, whole in scripts(page.read_text()):
        for words in simple_commands(text):
            check(words, ROOT, whole=whole)


def test_every_example_of_help_is_a_command_that_the_program_takes(checkout: Path) -> None:
    page = (checkout / "docs" / "cli.md").read_text()
    examples = re.findall(r"^ +Example: (ngscale .*(?:\n +\S.*)*)", page, re.MULTILINE)
    assert len(examples) > len(VERBS)
    for example in examples:
        for words in simple_commands(" ".join(example.split())):
            check(words, checkout)


def test_the_command_of_every_committed_report_is_one_that_the_program_takes(
    checkout: Path,
) -> None:
    for file in sorted((checkout / "reports").glob("*/environment.json")):
        made = json.loads(file.read_text())
        if "program" not in made:
            parse(made["argv"])


RUN = [page for page in PAGES if page.parent.name != "tutorials" and to_run(page.read_text())]


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_of_a_command_is_printed(
    page: Path, tmp_path: Path, checkout: Path
) -> None:
    for command in to_run(page.read_text()):
        run(command, tmp_path, checkout)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ngscale nope", "nope"),
        ("ngscale audit --nope", "--nope"),
        ("ngscale ids --seed -1", "0"),
        ("ngscale probe", "directory"),
        ("make nope", "nope"),
    ],
)
def test_a_command_that_would_not_run_is_found(line: str, said: str, checkout: Path) -> None:
    (words,) = simple_commands(f"HF_HUB_OFFLINE=1 {line} > file # a comment")
    with pytest.raises(Exception, match=said):  # typer exports no name for a usage error
        check(words, checkout)


@pytest.mark.parametrize("text", ["$ echo a b\nb a\n", "$ echo ab\na\n", "$ false\n"])
def test_a_command_that_prints_something_else_or_fails_is_found(
    text: str, tmp_path: Path, checkout: Path
) -> None:
    (command,) = typed(Block(word="console", text=text, line=1))
    with pytest.raises(AssertionError):
        run(command, tmp_path, checkout)


def test_the_command_line_page_is_what_help_prints(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate_cli.py", "--check"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_verb_and_every_document_is_linked_from_the_readme(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text()
    for verb in VERBS:
        assert f"ngscale {verb}" in readme
    for page in [*(checkout / "docs").glob("*.md"), *(checkout / "docs/tutorials").glob("*.md")]:
        assert f"]({page.relative_to(checkout)})" in readme


def test_every_number_of_a_finding_is_in_a_report_that_it_links_to(checkout: Path) -> None:
    section = (checkout / "README.md").read_text().partition("## Found so far")[2]
    rows = re.findall(r"^\| (?!finding|---)(.+) \|$", section.partition("\n## ")[0], re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        finding, numbers, links = row.split(" | ")
        assert _numbers(numbers), row
        known = set()
        for link in re.findall(r"\]\((reports/[^)]+)/README\.md\)", links):
            known |= _numbers((checkout / link / "README.md").read_text())
        missing = _numbers(f"{finding} {numbers}") - known
        assert not missing, f"{missing} of the finding {finding!r} not in {links}"


def _numbers(text: str) -> set[float]:
    """Numbers that stand alone: not those of V0, 2-grams, Qwen3-30B or 2026-11-22."""
    found = re.findall(r"(?<![\w.-])-?(\d[\d,]*(?:\.\d+)?)(?!-?\w|[.,]\d)", text)
    return {float(number.replace(",", "")) for number in found}


def test_what_the_readme_quotes_is_what_the_default_report_says(checkout: Path) -> None:
    readme = (checkout / "README.md").read_text()
    quoted = " ".join(line[2:] for line in readme.splitlines() if line.startswith("> "))
    figure = re.search(r"!\[.*\]\((.+)/figures/.*\)", readme)
    assert figure is not None
    record = json.loads((checkout / figure[1] / "record.json").read_text())
    assert quoted == record["answer"]


def test_every_field_of_a_policy_and_every_disagreement_is_in_the_method(checkout: Path) -> None:
    section = (checkout / "docs" / "method.md").read_text().partition("## Ids")[2]
    for number in range(1, 15):
        assert f"| D{number} |" in section
    for field in dataclasses.fields(Policy):
        assert f"`{field.name}`" in section


def test_every_relative_link_leads_somewhere(checkout: Path) -> None:
    pages = [
        checkout / "README.md",
        *(checkout / "docs").glob("*.md"),
        *(checkout / "docs" / "tutorials").glob("*.md"),
        *(checkout / "reports").rglob("*.md"),
        checkout / "corpora" / "README.md",
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
