"""Documents are generated from the program or run as printed."""

import re
import subprocess
import sys
from pathlib import Path

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
