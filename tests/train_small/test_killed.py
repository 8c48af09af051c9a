"""A run that is killed anywhere and resumed ends as one that was not, to the last bit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train_small.kill_driver import POINTS


def killed_and_resumed(checkout: Path, points: str, num_seeds: int) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.train_small.kill_driver", points, str(num_seeds)],
        capture_output=True,
        text=True,
        check=False,
        cwd=checkout,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, list[str]] = json.loads(done.stdout)
    return report


def test_three_kills_leave_no_trace(checkout: Path) -> None:
    points = [("update", 7), ("torn write", 4), ("checkpoint pruning", 1)]
    indices = ",".join(str(POINTS.index(point)) for point in points)
    report = killed_and_resumed(checkout, indices, 1)
    assert len(report["cases"]) == 3
    assert report["not_killed"] == report["differing"] == []


@pytest.mark.slow
def test_a_kill_at_any_point_leaves_no_trace(checkout: Path) -> None:
    report = killed_and_resumed(checkout, "all", 3)
    assert len(report["cases"]) == 3 * len(POINTS) >= 72
    assert report["not_killed"] == report["differing"] == []
