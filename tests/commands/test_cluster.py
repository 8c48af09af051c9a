import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ngscale.cli import app
from tests.test_executors import datatrove

TEXT = " ".join(f"the {a} of the {b} and the {a}" for a in "xyzuvw" for b in "abcdefgh")
SMALL = ["--tokenizer", "bpe-4096", "--ratio", "2:4", "--orders", "2:3"]


def invoke(*argv: str) -> Any:
    return CliRunner().invoke(app, ["collisions", *argv])


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return str(path)


@datatrove
@pytest.mark.slow
def test_local_tasks_give_the_record_and_the_parquet_of_one_process(
    text: str, tmp_path: Path
) -> None:
    argv = ["--corpus", text, *SMALL, "--json"]
    tasks = ["--executor", "local", "--tasks", "3", "--run-dir", str(tmp_path / "run")]
    alone = invoke(*argv, "--save-ngrams", str(tmp_path / "alone"))
    spread = invoke(*argv, *tasks, "--save-ngrams", str(tmp_path / "tasks"))
    assert spread.exit_code == 0, spread.stderr
    assert "count: 3 of 3 tasks to do" in spread.stderr
    documents = [json.loads(result.stdout) for result in (alone, spread)]
    for document in documents:
        del document["environment"]
    assert documents[0] == documents[1]
    for order in (2, 3):
        name = f"{order}-grams.parquet"
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "tasks" / name).read_bytes()
    again = invoke(*argv, *tasks)
    assert "count: 0 of 3 tasks to do" in again.stderr
    other = invoke(*argv, *tasks, "--policy", "no_eos")
    assert other.exit_code == 2
    assert other.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'run' / 'plan.json'}: ")


@pytest.mark.parametrize(
    ("argv", "code", "named"),
    [
        (["--executor", "dask"], 2, "--executor dask: takes local, slurm, ray"),
        (["--executor", "local", "--rule", "per-sequence"], 2, "--executor counts"),
        (["--executor", "local", "--recommend"], 2, "--executor counts"),
        (["--executor", "local", "--hit-rate", "30"], 2, "--executor counts"),
        (["--executor", "local", "--sbatch", "account"], 2, "--sbatch account: takes KEY=VALUE"),
        (["--tasks", "4"], 2, "--tasks goes with --executor"),
        (["--sbatch", "account=me"], 2, "--sbatch goes with --executor"),
        (["--executor", "slurm"], 8, "pip install 'ngscale[cluster]'"),
        (["--executor", "ray"], 8, "pip install 'ngscale[cluster]'"),
        (["--executor", "local"], 8, "pip install 'ngscale[cluster]'"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_read(
    argv: list[str], code: int, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = invoke(*argv, "--corpus", "no-such-file.txt")
    assert result.exit_code == code
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 1
