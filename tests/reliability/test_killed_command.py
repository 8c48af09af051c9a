"""A command that is ended anywhere and run again gives the bytes of one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.kill_driver import PHASES


def ended_and_resumed(directory: Path, checkout: Path, how: str, num_points: int) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.reliability.kill_driver"),
            *(str(directory), how, str(num_points)),
        ],
        cwd=checkout,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["wrong"] == []
    return found


def test_a_command_killed_in_every_phase_goes_on(tmp_path: Path, checkout: Path) -> None:
    found = ended_and_resumed(tmp_path, checkout, "SIGKILL", 1)
    assert found["cases"] == dict.fromkeys(PHASES, 1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_command_ended_at_twelve_points_of_every_phase_goes_on(
    tmp_path: Path, checkout: Path, how: str
) -> None:
    """Tokenising, counting, sweeping, reporting: twelve file operations of each."""
    found = ended_and_resumed(tmp_path, checkout, how, 12)
    assert set(found["cases"]) == set(PHASES)
    assert min(found["cases"].values()) >= 12
