"""A cell: one design trained with one seed, its losses and its norms through training."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ngscale.artefacts import cache_dir
from ngscale.commands.source import read_source
from ngscale.console import say
from ngscale.design import decoder_config
from ngscale.errors import InputError
from ngscale.model.checkpoint import save_decoder
from ngscale.probe.norms import StreamNorms, measure
from ngscale.probe.structure import find_structure
from ngscale.records import digest, dump_json, write_atomic
from ngscale.train_small import config
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.data import Blocks, cut_blocks
from ngscale.train_small.loop import train
from ngscale.train_small.run_log import RunLog
from ngscale.train_small.trainer import Trainer
from ngscale.train_small.usage import layer_loads, table_use
from reports.experiments.scale import (
    CORPUS,
    CORPUS_SHA256,
    TOKENIZER,
    TOKENIZER_SHA256,
    TRAINING,
    Arm,
)

STORE = Path(__file__).parent / "cells"
NUM_PROBED_BLOCKS = 8
"""Held-out blocks whose norms are read at every evaluation."""
_SEEN_ORDERS = (2, 3, 4)
_CHECKPOINT_STEPS = 250


@cache
def blocks() -> Blocks:
    """What all cells are trained on.

    Raises:
        InputError: the corpus is not what the cells were trained on.
    """
    stream, _ = read_source([CORPUS], TOKENIZER)
    if stream.sha256() != CORPUS_SHA256:
        raise InputError(
            f"corpus {CORPUS}: its ids have sha256 {stream.sha256()}, those of the experiments "
            f"{CORPUS_SHA256}; build it again with ngscale corpora build {CORPUS}"
        )
    return cut_blocks(
        stream,
        separator=0,
        seq_len=TRAINING.seq_len,
        held_out_frac=TRAINING.held_out_frac,
        section_tokens=TRAINING.section_tokens,
        min_train=TRAINING.batch_size,
    )


def identity(arm: Arm, seed: int) -> dict[str, Any]:
    """Everything a cell is a function of, but for the machine."""
    return {
        "corpus": CORPUS_SHA256,
        "tokenizer": TOKENIZER_SHA256,
        "training": asdict(TRAINING),
        "design": decoder_config(arm.design),
        "seed": seed,
        "tokens": arm.tokens,
    }


def name_of(arm: Arm, seed: int) -> str:
    """Of the cell's file."""
    return digest(identity(arm, seed))


def load(arm: Arm, seed: int) -> dict[str, Any] | None:
    """A finished cell; None where there is none."""
    path = STORE / f"{name_of(arm, seed)}.json"
    if not path.is_file():
        return None
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document


def read(arm: Arm, seed: int) -> dict[str, Any]:
    """A cell that is known to be finished."""
    cell = load(arm, seed)
    assert cell is not None
    return cell


def run(arms: Sequence[tuple[str, Arm]], seeds: Sequence[int]) -> None:
    """Train what is missing, seed by seed; cells that another process trains are passed over."""
    for (experiment, _), family in groupby(arms, lambda one: (one[0], one[1].family)):
        _run_family(experiment, [arm for _, arm in family], seeds)


def _run_family(experiment: str, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    for seed in seeds:
        for arm in arms:
            inputs = identity(arm, seed)
            name = digest(inputs)
            path, scratch = STORE / f"{name}.json", cache_dir() / "experiments" / name
            with _mine(scratch) as is_mine:
                if is_mine and not path.is_file():
                    say(f"{experiment} {arm.name}, seed {seed}: {name}")
                    cell = _train(arm, seed, inputs, scratch)
                    write_atomic(path, dump_json(cell).encode())
                    say(f"{experiment} {arm.name}, seed {seed}: {cell['val_loss_nats']:.4f}")


@contextmanager
def _mine(directory: Path) -> Iterator[bool]:
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _train(arm: Arm, seed: int, inputs: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Resumes from the last checkpoint in ``scratch``; leaves the trained decoder there."""
    torch.set_num_threads(1)
    start = time.monotonic()
    norms_path = scratch / "norms.jsonl"
    trainer = _Counting(
        config.Arm(name=arm.name, design=arm.design),
        blocks(),
        seed=seed,
        num_steps=arm.tokens // TRAINING.tokens_per_step,
        training=TRAINING,
        device=torch.device("cpu"),
        at=lambda phase: _probe(trainer, norms_path) if phase == "evaluate" else None,
    )
    checkpoints = Checkpoints(
        scratch / "checkpoints", identity=inputs, every=_CHECKPOINT_STEPS, keep=1
    )
    result = train(
        trainer, checkpoints=checkpoints, log=RunLog(scratch / "log.jsonl"), orders=_SEEN_ORDERS
    )
    trainer.finish()
    save_decoder(trainer.decoder, arm.design, scratch)
    cell = {
        "inputs": inputs,
        "val_loss_nats": result.val_loss_nats,
        "val_curve": result.val_curve,
        "train_curve": result.train_curve,
        "val_by_seen": [asdict(item) for item in result.val_by_seen],
        "norms": _read_norms(norms_path),
        "table_use": [asdict(item) for item in table_use(trainer)],
        "layer_loads": [asdict(item) for item in layer_loads(trainer)],
        "environment": {"torch": torch.__version__, "threads": 1},
    }
    shutil.rmtree(scratch / "checkpoints", ignore_errors=True)
    say(f"{arm.name}, seed {seed}: {arm.tokens / (time.monotonic() - start):,.0f} tokens/s")
    return cell


class _Counting(Trainer):
    """Knows how many steps are done."""

    num_done = 0

    def step(self, step: int) -> None:
        super().step(step)
        self.num_done = step + 1


def _probe(trainer: _Counting, path: Path) -> None:
    """Append the medians over tokens, first positions apart, of the norms at this point."""
    decoder = trainer.decoder.eval()
    windows = trainer.blocks.held_out.take(range(NUM_PROBED_BLOCKS))[:, :-1]
    norms = measure(
        find_structure(decoder, trainer.arm.name),
        decoder,
        windows,
        device=trainer.device,
        done=lambda: None,
    )
    tokens = trainer.num_done * TRAINING.tokens_per_step
    with path.open("a") as file:
        file.write(json.dumps({"tokens": tokens, **_medians(norms)}) + "\n")


def _medians(norms: StreamNorms) -> dict[str, Any]:
    def median(values: np.ndarray) -> float:
        return float(np.median(values[:, 1:]))

    return {
        "embed": median(norms.embed),
        "parts": {name: median(part) for name, part in norms.embed_parts.items()},
        "sublayers": [
            {
                "name": one.name,
                "write": median(one.write),
                "stream": median(one.stream),
                "ratio": median(one.write / one.stream),
            }
            for one in norms.sublayers
        ],
        "shares": [median(one.share) for one in norms.shares],
        "closure": norms.closure.max_relative_error,
    }


def _read_norms(path: Path) -> list[dict[str, Any]]:
    """One per evaluation; a resumed run may have passed one twice, to the same values."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return list({line["tokens"]: line for line in lines}.values())
