"""What each rank of the distributed tests runs: torchrun starts this as a module.

    torchrun --nproc-per-node 2 -m tests.train_small.rank_driver DIRECTORY NUM_STEPS [KILLED_AT]

trains with a checkpoint every 4 steps; the rank 1 kills itself at the step KILLED_AT. At its very
end a rank writes the names of the threads that gloo has left.
"""

import atexit
import json
import os
import signal
import sys
from pathlib import Path

import torch

from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.config import Arm
from ngscale.train_small.distributed import join_world
from ngscale.train_small.loop import train
from ngscale.train_small.run import make_blocks
from ngscale.train_small.run_log import LOG_NAME, RunLog
from ngscale.train_small.trainer import Trainer
from tests.model.small import DESIGN
from tests.train_small.small import TRAINING, request

EVERY = 4


def write_gloo_threads(path: Path) -> None:
    names = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    path.write_text(json.dumps([name for name in names if "gloo" in name]))


def main() -> None:
    torch.set_num_threads(1)
    directory, num_steps = Path(sys.argv[1]), int(sys.argv[2])
    rank = os.environ["RANK"]
    atexit.register(write_gloo_threads, directory / f"threads{rank}.json")  # the last to be called
    killed_at = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    device = torch.device("cpu")
    world = join_world(device)
    num_batches = 0

    def at(phase: str) -> None:
        nonlocal num_batches
        num_batches += phase == "batch"
        if world.rank == 1 and num_batches == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = Trainer(
        Arm(name="design", design=DESIGN),
        make_blocks(request()),
        seed=0,
        num_steps=num_steps,
        training=TRAINING,
        device=device,
        world=world,
        at=at if killed_at else lambda _: None,
    )
    shares = [len(state.table.weight) for state in trainer.optimiser.tables.states.values()]
    checkpoints = Checkpoints(
        directory / "checkpoints", identity={"seed": 0}, every=EVERY, world=world
    )
    result = train(trainer, checkpoints=checkpoints, log=RunLog(directory / LOG_NAME))
    trainer.finish()
    tables = next(iter(trainer.optimiser.tables.states.values())).table.weight
    report = {
        "rank": world.rank,
        "num_ranks": world.size,
        "rows_held": shares,
        "val_curve": result.val_curve,
        "train_curve": result.train_curve,
        "tables_shape": list(tables.shape),
        "tables_norm": tables.detach().double().norm().item(),
        "bias": {
            name: buffer.tolist()
            for name, buffer in trainer.decoder.named_buffers()
            if name.endswith("e_score_correction_bias")
        },
    }
    (directory / f"rank{world.rank}-of-{world.size}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
