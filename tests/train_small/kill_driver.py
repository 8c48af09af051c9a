"""Kill a training process at a named point, resume it, and compare it with one never killed.

A program of its own, so that every run is a fork of one process that has started no threads:

    python -m tests.train_small.kill_driver POINTS SEEDS

prints one JSON object: the cases, those that were killed, and those that differ.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from ngscale.train_small.checkpoint import Checkpoints, ignore
from ngscale.train_small.config import Arm
from ngscale.train_small.data import Blocks
from ngscale.train_small.loop import train
from ngscale.train_small.run import make_blocks
from ngscale.train_small.run_log import LOG_NAME, RunLog
from ngscale.train_small.state import save_state
from ngscale.train_small.trainer import Trainer
from tests.model.small import DESIGN
from tests.train_small.small import TRAINING, request

NUM_STEPS = 12
EVERY = 4
"""Checkpoints after 4 and 8 steps, of which the last is kept: the second one prunes the first."""
Point = tuple[str, int]
POINTS: tuple[Point, ...] = (
    # before the first checkpoint
    ("batch", 1),
    ("forward", 2),
    ("update", 3),
    # the first checkpoint
    ("checkpoint begins", 1),
    ("checkpoint tensors", 1),
    ("torn write", 1),
    ("checkpoint document", 1),
    ("torn write", 2),
    ("checkpoint rename", 1),
    ("checkpoint renamed", 1),
    ("checkpoint pruned", 1),
    # between the two
    ("batch", 5),
    ("forward", 6),
    ("backward", 6),
    ("clip", 7),
    ("update", 7),
    ("balance", 7),
    ("evaluate", 1),
    ("log", 2),
    # the second checkpoint
    ("checkpoint begins", 2),
    ("checkpoint tensors", 2),
    ("torn write", 4),
    ("checkpoint document", 2),
    ("torn write", 5),
    ("checkpoint rename", 2),
    ("checkpoint renamed", 2),
    ("checkpoint pruning", 1),
    ("checkpoint pruned", 2),
    # after it
    ("batch", 9),
    ("forward", 10),
    ("backward", 11),
    ("update", 12),
    ("balance", 12),
    ("log", 4),
    ("evaluate", 2),
)
"""Phase and the time it is met. A torn write ends a process in the nth fsync, the file cut in half:
of the tensors, of training.json, then of two directories."""

assert len(POINTS) >= 24


def kill_at(point: Point) -> Callable[[str], None]:
    """A hook that ends this process without warning at ``point``."""
    met: Counter[str] = Counter()

    def at(phase: str) -> None:
        met[phase] += 1
        if (phase, met[phase]) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    if point[0] == "torn write":
        sync = os.fsync

        def torn(handle: int) -> None:
            if met["torn write"] + 1 == point[1]:
                with contextlib.suppress(OSError):  # a directory has no length to cut
                    os.ftruncate(handle, os.fstat(handle).st_size // 2)
            at("torn write")
            sync(handle)

        os.fsync = torn  # type: ignore[assignment]
    return at


def run(blocks: Blocks, seed: int, directory: Path, point: Point | None) -> None:
    """One process: train to the end or to ``point``; leave the hash of all that came of it."""
    at = ignore if point is None else kill_at(point)
    trainer = Trainer(
        Arm(name="design", design=DESIGN),
        blocks,
        seed=seed,
        num_steps=NUM_STEPS,
        training=TRAINING,
        device=torch.device("cpu"),
        at=at,
    )
    checkpoints = Checkpoints(
        directory / "checkpoints", identity={"seed": seed}, every=EVERY, keep=1, at=at
    )
    result = train(trainer, checkpoints=checkpoints, log=RunLog(directory / LOG_NAME))
    digest = hashlib.sha256(repr(result).encode())
    for name, tensor in sorted(save_state(trainer).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    for line in (directory / LOG_NAME).read_text().splitlines():
        values = json.loads(line)
        del values["elapsed_s"]
        digest.update(json.dumps(values).encode())
    left = sorted(path.name for path in (directory / "checkpoints").iterdir())
    (directory / "digest").write_text(f"{digest.hexdigest()} {left}")


def forked(blocks: Blocks, seed: int, directory: Path, point: Point | None) -> int:
    """``run`` in a process of its own; what it ended with, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            run(blocks, seed, directory, point)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Every point of every seed."""
    chosen = [POINTS[int(i)] for i in sys.argv[1].split(",")] if sys.argv[1] != "all" else POINTS
    blocks = make_blocks(request())
    report: dict[str, list[object]] = {"cases": [], "not_killed": [], "differing": []}
    for seed in range(int(sys.argv[2])):
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            assert forked(blocks, seed, whole, None) == 0
            expected = (whole / "digest").read_text()
            for point in chosen:
                case = f"{point[0]} {point[1]}, seed {seed}"
                report["cases"].append(case)
                cut = Path(folder) / case
                if forked(blocks, seed, cut, point) != -signal.SIGKILL:
                    report["not_killed"].append(case)
                    continue
                code = forked(blocks, seed, cut, None)
                if code != 0 or (cut / "digest").read_text() != expected:
                    report["differing"].append(case)
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
