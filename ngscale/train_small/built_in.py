"""The built-in design, trained for a minute and kept: a decoder for verbs that were given none."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ngscale.design import decoder_config
from ngscale.model.checkpoint import CONFIG_NAME, save_decoder
from ngscale.records import dump_json
from ngscale.tokens import TokenStream
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.config import DEFAULT_DESIGN, TRAINING, Arm
from ngscale.train_small.data import Blocks
from ngscale.train_small.loop import train
from ngscale.train_small.trainer import Trainer

STEPS = 300
_SAVE_STEPS = 100


def built_in_checkpoint(
    stream: TokenStream,
    blocks: Blocks,
    cache: Path,
    *,
    steps: int = STEPS,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """Its directory under ``cache``, trained on a CPU where it is not there yet; resumes.

    Raises:
        NoResultError: the loss is not finite.
        KeyboardInterrupt: the run was interrupted; a later call resumes it.
    """
    identity = {
        "corpus": stream.sha256(),
        "training": asdict(TRAINING),
        "design": decoder_config(DEFAULT_DESIGN),
        "seed": 0,
        "steps": steps,
    }
    name = hashlib.sha256(dump_json(identity).encode()).hexdigest()[:16]
    directory = cache / "decode" / f"built-in-{name}"
    if (directory / CONFIG_NAME).is_file():
        advance(steps)
        return directory
    trainer = Trainer(
        Arm(name="design", design=DEFAULT_DESIGN),
        blocks,
        seed=0,
        num_steps=steps,
        training=TRAINING,
        device=torch.device("cpu"),
    )
    checkpoints = Checkpoints(
        directory / "checkpoints", identity=identity, every=_SAVE_STEPS, keep=1
    )
    train(trainer, checkpoints=checkpoints, advance=advance)
    trainer.finish()
    save_decoder(trainer.decoder, DEFAULT_DESIGN, directory)
    return directory
