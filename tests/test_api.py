"""docs/api.md: every listed name is what it says, and the examples give what they show."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.printed import blocks


def test_the_page_is_what_the_docstrings_say(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate_api.py", "--check"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_area_has_an_example_and_all_of_them_run(checkout: Path) -> None:
    page = (checkout / "docs" / "api.md").read_text()
    for area in page.split("\n## ")[1:]:
        assert ">>> " in area, area.splitlines()[0]
    names: dict[str, Any] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for block in blocks(page):
        if block.text.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(
                block.text, names, "docs/api.md", "docs/api.md", block.line - 1
            )
            runner.run(test, clear_globs=False)
            names = test.globs
    assert runner.tries > 20
    assert runner.failures == 0


def test_every_name_can_be_imported_from_where_it_is_listed(checkout: Path) -> None:
    names = re.findall(r"^::: (.+)\.(\w+)$", (checkout / "docs/templates/api.md").read_text(), re.M)
    assert len(names) > 40
    for module, name in names:
        assert getattr(importlib.import_module(module), name) is not None
