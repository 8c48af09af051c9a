"""Every tutorial, run as printed from its first command to its last in an empty directory."""

from pathlib import Path

import pytest

from tests.printed import run, to_run

TUTORIALS = sorted((Path(__file__).parent.parent / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_printed_and_prints_what_it_shows(
    page: Path, tmp_path: Path, checkout: Path
) -> None:
    commands = to_run(page.read_text())
    assert any(command.shown for command in commands)
    for command in commands:
        run(command, tmp_path, checkout)
