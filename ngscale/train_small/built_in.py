"""Decoders for verbs that were given none, trained for a minute and kept."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design, decoder_config
from ngscale.model.checkpoint import CONFIG_NAME, save_decoder
from ngscale.records import digest
from ngscale.tokens import TokenStream
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.config import DEFAULT_DESIGN, TRAINING, Arm
from ngscale.train_small.data import Blocks
from ngscale.train_small.loop import train
from ngscale.train_small.trainer import Trainer

STEPS = 300
_SAVE_STEPS = 100


def draft_design(vocab_size: int) -> Design:
    """A small model without tables that drafts for a larger one of this vocabulary."""
    return Design(
        model=decoder_model(
            DecoderConfig(
                vocab_size=vocab_size,
                hidden_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=32,
                moe_intermediate_size=64,
                num_experts=4,
                num_experts_per_tok=1,
            )
        )
    )


def built_in_checkpoint(
    stream: TokenStream,
    blocks: Blocks,
    cache: Path,
    *,
    design: Design = DEFAULT_DESIGN,
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
        "design": decoder_config(design),
        "seed": 0,
        "steps": steps,
    }
    directory = cache / "decode" / f"built-in-{digest(identity)}"
    if (directory / CONFIG_NAME).is_file():
        advance(steps)
        return directory
    trainer = Trainer(
        Arm(name="design", design=design),
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
    save_decoder(trainer.decoder, design, directory)
    return directory
