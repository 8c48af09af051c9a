"""A plan killed at every stage and taken up again is the plan that was never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plan.kill_driver import POINTS
from tests.plan.small import write_config, write_text

ONE_A_STAGE = [
    ("1-audit", "stage.json"),
    ("2-sizes", "report"),
    ("3-candidates", "begins"),
    ("4-proxies", "stage.json"),
    ("5-schedule", "report"),
    ("6-train-own-share", "second run saved"),
    ("plan", "report"),
]


def ends_alike(directory: Path, checkout: Path, points: str) -> None:
    argv = [write_config(directory), write_text(directory), str(directory), points]
    done = subprocess.run(
        [sys.executable, "-m", "tests.plan.kill_driver", *argv],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"not_killed": [], "code": 0, "differing": []}


def test_a_plan_killed_once_in_every_stage_ends_as_one_never_killed(
    tmp_path: Path, checkout: Path
) -> None:
    places = [str(POINTS.index(point)) for point in ONE_A_STAGE]
    ends_alike(tmp_path, checkout, ",".join(places))


@pytest.mark.slow
def test_a_plan_killed_before_in_and_after_the_writing_of_every_stage_ends_alike(
    tmp_path: Path, checkout: Path
) -> None:
    """Twenty kills in one directory."""
    ends_alike(tmp_path, checkout, "all")
