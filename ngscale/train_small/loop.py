"""One run: train a decoder on its batches, watch the losses, stop on what is not finite."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import numpy as np
from jaxtyping import Float

from ngscale.errors import NoResultError
from ngscale.model.run_checkpoint import DOCUMENT, damaged
from ngscale.train_small.checkpoint import Checkpoints
from ngscale.train_small.distributed import World, agreed
from ngscale.train_small.optimiser import rate_factor
from ngscale.train_small.run_log import RunLog
from ngscale.train_small.seen import SeenLoss, held_out_counts, split_by_seen
from ngscale.train_small.state import load_state, save_state
from ngscale.train_small.trainer import Trainer

_CHECK_STEPS = 20
"""Steps between looks at the device, and between words with other ranks; every step on one CPU."""


class OutOfTimeError(Exception):
    """The deadline passed inside a run; the runner drops the unfinished seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What one run measured."""

    val_loss_nats: float
    """Mean over held-out tokens, nats/token, after the last step."""
    train_curve: tuple[tuple[int, float], ...]
    """(tokens seen, mean training loss since the point before)."""
    val_curve: tuple[tuple[int, float], ...]
    """(tokens seen, held-out loss)."""
    val_by_seen: tuple[SeenLoss, ...] = ()
    """The last held-out loss, by order and by how often a position's n-gram was trained on."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where a run is, beside its tensors; plain JSON in a checkpoint."""

    step: int = 0
    """Steps that are done."""
    num_summed: int = 0
    """Steps since the last point of the training curve."""
    loss_sum: float = 0.0
    """Their losses, as far as they were read from the device."""
    num_unread: int = 0
    """Steps whose losses are still on the device."""
    train_curve: list[tuple[int, float]] = field(default_factory=list)
    val_curve: list[tuple[int, float]] = field(default_factory=list)

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> "Progress":
        """From the document of a checkpoint."""
        return cls(
            **{
                **saved,
                "train_curve": [(tokens, loss) for tokens, loss in saved["train_curve"]],
                "val_curve": [(tokens, loss) for tokens, loss in saved["val_curve"]],
            }
        )


def train(
    trainer: Trainer,
    *,
    deadline: float = math.inf,
    advance: Callable[[int], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    log: RunLog | None = None,
    orders: tuple[int, ...] = (),
) -> RunResult:
    """Train to the end, from the last checkpoint where there is one.

    ``deadline`` is a ``time.monotonic()``; ``orders`` those of the n-grams that the last
    held-out loss is split by. Ctrl-C or SIGTERM on one rank saves a checkpoint after the step.

    Raises:
        NoResultError: a loss is not finite.
        OutOfTimeError: the deadline passed.
        KeyboardInterrupt: the run was interrupted.
    """
    training, num_steps, world = trainer.training, trainer.num_steps, trainer.world
    log = log or RunLog(None)
    log_steps = _evenly(training.num_train_points, num_steps)
    eval_steps = _evenly(training.num_evals, num_steps)
    check_every = 1 if trainer.device.type == "cpu" and world.size == 1 else _CHECK_STEPS
    progress = _resume(trainer, checkpoints)
    if world.is_first:
        log.resume(progress.step)
    advance(progress.step)
    losses = np.empty(0)
    with _interruptible(world) as interrupted:
        while progress.step < num_steps:
            trainer.step(progress.step)
            done = progress.step = progress.step + 1
            progress.num_unread += 1
            tokens = done * training.tokens_per_step
            logs = done in log_steps or done % training.log_every == 0
            saves = checkpoints is not None and (
                done % checkpoints.every == 0 or interrupted.is_set()
            )
            if done % check_every == 0 or logs or saves or done in eval_steps:
                trainer.check()
                if agreed(time.monotonic() - deadline, world) > 0:
                    raise OutOfTimeError
            if logs:
                trainer.at("log")
                _log_training(trainer, progress, log, tokens, on_curve=done in log_steps)
            if done in eval_steps:
                trainer.at("evaluate")
                losses = _evaluate(trainer, progress, log, tokens)
            if checkpoints is not None and saves and done < num_steps:
                _save(trainer, progress, checkpoints)
            advance(1)
            if interrupted.is_set():
                raise KeyboardInterrupt
    log.finish()
    return RunResult(
        val_loss_nats=progress.val_curve[-1][1],
        train_curve=tuple(progress.train_curve),
        val_curve=tuple(progress.val_curve),
        val_by_seen=_by_seen(trainer, losses, orders),
    )


def _resume(trainer: Trainer, checkpoints: Checkpoints | None) -> Progress:
    saved = None if checkpoints is None else checkpoints.latest()
    if saved is None:
        return Progress()
    load_state(saved, trainer)
    try:
        return Progress.read(saved.document["progress"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(saved.path / DOCUMENT, f"progress: {error}") from error


def _save(trainer: Trainer, progress: Progress, checkpoints: Checkpoints) -> None:
    checkpoints.save(progress.step, save_state(trainer), asdict(progress))


def _log_training(
    trainer: Trainer, progress: Progress, log: RunLog, tokens: int, *, on_curve: bool
) -> None:
    loss_sum = trainer.take_train_loss()
    progress.loss_sum += loss_sum
    progress.num_summed += progress.num_unread
    values = {
        "tokens": tokens,
        "train_loss_nats": loss_sum / progress.num_unread,
        "grad_norm": trainer.grad_norm.item(),
        "learning_rate": trainer.training.learning_rate
        * rate_factor(progress.step - 1, trainer.num_steps, trainer.training),
    }
    progress.num_unread = 0
    if on_curve:
        progress.train_curve.append((tokens, progress.loss_sum / progress.num_summed))
        progress.loss_sum, progress.num_summed = 0.0, 0
    if trainer.world.is_first:
        log.write(progress.step, values)


def _evaluate(
    trainer: Trainer, progress: Progress, log: RunLog, tokens: int
) -> Float[np.ndarray, "n T"]:
    losses = trainer.evaluate()
    loss = float(losses.mean())
    if not math.isfinite(loss):
        raise NoResultError(
            f"arm {trainer.arm.name}, seed {trainer.seed}: the held-out loss is not finite after "
            f"step {progress.step - 1} of {trainer.num_steps}"
        )
    progress.val_curve.append((tokens, loss))
    if trainer.world.is_first:
        log.write(progress.step, {"tokens": tokens, "val_loss_nats": loss})
    return losses


def _by_seen(
    trainer: Trainer, losses: Float[np.ndarray, "n T"], orders: tuple[int, ...]
) -> tuple[SeenLoss, ...]:
    if not orders:
        return ()
    counts = held_out_counts(
        trainer.blocks,
        seed=trainer.seed,
        num_blocks=trainer.num_steps * trainer.training.batch_size,
        orders=orders,
        num_held_out=trainer.num_held_out,
    )
    return split_by_seen(losses, counts)


@contextlib.contextmanager
def _interruptible(world: World) -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM, so that the step can end; a second one ends it at once.

    Not among ranks, which would have to agree on the step, nor outside the main thread, where
    Python takes no signals.
    """
    event = threading.Event()
    if world.size > 1 or threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number: int, frame: FrameType | None) -> None:
        event.set()
        restore()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in signals:
        signal.signal(number, note)
    try:
        yield event
    finally:
        restore()


def _evenly(count: int, num_steps: int) -> frozenset[int]:
    """Up to ``count`` of 1..num_steps, evenly spaced, the last one among them."""
    return frozenset(math.ceil((i + 1) * num_steps / count) for i in range(count))
