"""Documents are generated from the program or run as printed."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from ngscale.policy import Policy
from tests.test_cli import VERBS


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
    for page in (checkout / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme


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
        *(checkout / "reports").rglob("*.md"),
        checkout / "corpora" / "README.md",
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
