"""Two gloo ranks: the losses of one, an end when one is killed, checkpoints for any number."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ngscale.errors import UsageError
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.config import Arm
from ngscale.train_small.distributed import World, shard_bounds, share
from ngscale.train_small.loop import RunResult, train
from ngscale.train_small.run import make_blocks
from ngscale.train_small.trainer import Trainer
from tests.model.small import DESIGN
from tests.train_small.small import TRAINING, request

NUM_STEPS = 12
TOLERANCE = 1e-6
"""Relative, of a loss: gradients are float32 sums in another order, over 12 steps. Seen: 3e-9."""


def torchrun(
    directory: Path, checkout: Path, *arguments: int, num_ranks: int = 2
) -> subprocess.CompletedProcess[str]:
    directory.mkdir(exist_ok=True)
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(num_ranks), "-m", "tests.train_small.rank_driver"),
            *(str(directory), *map(str, arguments)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def one_rank(directory: Path | None = None) -> RunResult:
    trainer = Trainer(
        Arm(name="design", design=DESIGN),
        make_blocks(request()),
        seed=0,
        num_steps=NUM_STEPS,
        training=TRAINING,
        device=torch.device("cpu"),
    )
    if directory is None:
        return train(trainer)
    return train(trainer, checkpoints=Checkpoints(directory, identity={"seed": 0}, every=4))


def report_of(directory: Path, rank: int, num_ranks: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((directory / f"rank{rank}-of-{num_ranks}.json").read_text())
    return report


def test_two_ranks_have_the_losses_of_one(tmp_path: Path, checkout: Path) -> None:
    done = torchrun(tmp_path, checkout, NUM_STEPS)
    assert done.returncode == 0, done.stderr
    expected = one_rank()
    first, second = (report_of(tmp_path, rank, 2) for rank in range(2))
    for curve in ("train_curve", "val_curve"):
        assert first[curve] == second[curve]
        losses = [loss for _, loss in first[curve]]
        assert losses == pytest.approx(
            [loss for _, loss in getattr(expected, curve)], rel=TOLERANCE
        )
    assert first["rows_held"] == second["rows_held"] == [328]  # of 656
    assert first["tables_norm"] == second["tables_norm"]
    assert first["bias"] == second["bias"]
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [4, 6, 8, 10, 12, 12]
    for rank in range(2):  # one that lives while Python finalises may abort the process
        assert json.loads((tmp_path / f"threads{rank}.json").read_text()) == []


def test_a_killed_rank_ends_the_run_and_one_rank_resumes_it(tmp_path: Path, checkout: Path) -> None:
    start = time.monotonic()
    done = torchrun(tmp_path, checkout, NUM_STEPS, 10)
    assert done.returncode != 0
    assert time.monotonic() - start < 60  # with the start of three processes
    checkpoints = tmp_path / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-00000004", "step-00000008"]
    document = json.loads((checkpoints / "step-00000008" / "training.json").read_text())
    assert document["num_ranks"] == 2
    assert one_rank(checkpoints).val_loss_nats == pytest.approx(
        one_rank().val_loss_nats, rel=TOLERANCE
    )


@pytest.mark.slow
def test_two_ranks_resume_what_one_began(tmp_path: Path, checkout: Path) -> None:
    expected = one_rank(tmp_path / "checkpoints")
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000004")
    done = torchrun(tmp_path, checkout, NUM_STEPS)
    assert done.returncode == 0, done.stderr
    found = report_of(tmp_path, 1, 2)
    assert found["val_curve"][-1][1] == pytest.approx(expected.val_loss_nats, rel=TOLERANCE)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [10, 12, 12]


@pytest.mark.parametrize("num_rows", [1, 4, 10, 11, 656])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_disjoint_and_whole(num_rows: int, size: int) -> None:
    bounds = [shard_bounds(num_rows, World(rank=rank, size=size)) for rank in range(size)]
    assert [row for start, end in bounds for row in range(start, end)] == list(range(num_rows))


def test_a_batch_that_ranks_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size 4 is no multiple of WORLD_SIZE 3"):
        share(4, World(size=3))
