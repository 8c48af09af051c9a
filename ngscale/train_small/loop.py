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
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ngscale.errors import NoResultError
from ngscale.model.decoder import Decoder
from ngscale.train_small.checkpoint import At, Checkpoints, ignore
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks
from ngscale.train_small.distributed import ALONE, World, agreed, gathered, share, sum_over
from ngscale.train_small.optimiser import Optimiser, rate_factor
from ngscale.train_small.row_table import put_row_tables, row_tables
from ngscale.train_small.run_log import RunLog
from ngscale.train_small.seen import SeenLoss, held_out_counts, split_by_seen
from ngscale.train_small.state import load_state, save_state

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


class Trainer:
    """A decoder, its optimiser and its running losses, all on one device.

    A step makes no host sync on CUDA: losses add up on the device and are read at log points. A
    loss or gradient that is not finite raises a flag, with which no optimiser touches a weight, in
    that step and in every later one, until the flag is read.
    """

    def __init__(
        self,
        arm: Arm,
        blocks: Blocks,
        *,
        seed: int,
        num_steps: int,
        training: Training,
        device: torch.device,
        world: World = ALONE,
        compiled: bool = False,
        at: At = ignore,
    ) -> None:
        """Draw the weights; ``compiled`` runs the layers through ``torch.compile``."""
        self.arm = arm
        self.blocks = blocks
        self.seed = seed
        self.num_steps = num_steps
        self.training = training
        self.device = device
        self.world = world
        self.at = at
        self.share = share(training.batch_size, world)
        share(self.share, World(size=training.accumulation))
        decoder = Decoder(arm.design)
        decoder.initialise(seed)
        put_row_tables(decoder, world)
        self.decoder = decoder.to(device)
        if compiled:
            for layer in self.decoder.layers:
                layer.compile()
        self.optimiser = Optimiser(self.decoder, training)
        self.model = _averaged(self.decoder, world)
        self.loss_sum = torch.zeros((), device=device)
        self.grad_norm = torch.zeros((), device=device)
        self.failed = torch.zeros((), device=device)
        self.failed_step = torch.full((), -1.0, device=device)

    def step(self, step: int) -> None:
        """One optimiser step on the batch of ``(seed, step)``."""
        self.at("batch")
        self.decoder.train()
        batch = self._to_device(
            self.blocks.batch(
                seed=self.seed,
                step=step,
                batch_size=self.training.batch_size,
                rank=self.world.rank,
                num_ranks=self.world.size,
            )
        )
        self.optimiser.set_rate(rate_factor(step, self.num_steps, self.training))
        self.optimiser.zero_grad()
        loss = self._backward(batch)
        self.at("clip")
        norm, scale = self.optimiser.clip(self.training.max_grad_norm)
        self._watch(step, loss, norm)
        self.at("update")
        self.optimiser.step(scale=scale, failed=self.failed)
        self.at("balance")
        self._sum_loads()
        self.decoder.balance_experts(self.training.balance_rate)

    def _backward(self, batch: Tensor) -> Tensor:
        """Gradients of the mean loss over the batch; that loss."""
        parts = batch.chunk(self.training.accumulation)
        total = torch.zeros((), device=self.device)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            alone = isinstance(self.model, Decoder) or last
            with contextlib.nullcontext() if alone else self.model.no_sync():  # type: ignore[operator]
                self.at("forward")
                loss = self._mean_loss(part) / len(parts)
                self.at("backward")
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return sum_over(total, self.world) / self.world.size

    def _watch(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        bad = ~(torch.isfinite(loss) & torch.isfinite(grad_norm))
        first = bad & (self.failed == 0)
        self.failed_step.copy_(torch.where(first, step, self.failed_step))
        self.failed.copy_(torch.maximum(self.failed, bad.float()))
        self.loss_sum += loss
        self.grad_norm.copy_(grad_norm)

    def _sum_loads(self) -> None:
        """The load of experts is that of all ranks; a count, so its sum is exact."""
        if self.world.size > 1:
            for name, buffer in self.decoder.named_buffers():
                if name.endswith(".load"):
                    sum_over(buffer, self.world)

    def check(self) -> None:
        """Read the flag from the device.

        Raises:
            NoResultError: names the arm and the step whose loss was not finite.
        """
        if self.failed.item():
            raise NoResultError(
                f"arm {self.arm.name}, seed {self.seed}: the loss or its gradient is not finite "
                f"at step {int(self.failed_step.item())} of {self.num_steps}; the weights were not "
                "updated"
            )
        self.optimiser.tables.refresh()

    def take_train_loss(self) -> float:
        """The sum of the losses since the last call."""
        total: float = self.loss_sum.item()
        self.loss_sum.zero_()
        return total

    @property
    def num_held_out(self) -> int:
        """Held-out blocks that are evaluated."""
        return min(self.training.max_eval_blocks, len(self.blocks.held_out))

    @torch.no_grad()
    def evaluate(self) -> Float[np.ndarray, "n T"]:
        """The loss at every position of the held-out blocks, nats."""
        self.decoder.eval()
        parts = []
        for start in range(0, self.num_held_out, self.training.batch_size):
            first = start + self.world.rank * self.share
            # The last block again where a batch is not full: all ranks make equal calls.
            mine = np.minimum(np.arange(first, first + self.share), self.num_held_out - 1)
            parts.append(self._losses(self._to_device(self.blocks.held_out.take(mine))))
        losses = [gathered(part, self.world) for part in parts]
        return torch.cat(losses)[: self.num_held_out].double().cpu().numpy()

    def _mean_loss(self, batch: Tensor) -> Tensor:
        """Mean cross-entropy of the next token, through what averages the ranks' gradients."""
        with self._mixed():
            logits = self.model(batch[:, :-1])  # (B, T, V0)
        return functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    def _losses(self, batch: Tensor) -> Tensor:
        """The same at every position [B, T], without gradients."""
        with self._mixed():
            logits = self.decoder(batch[:, :-1])  # (B, T, V0)
        targets = batch[:, 1:]
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), reduction="none"
        )
        return losses.view_as(targets)

    def _mixed(self) -> contextlib.AbstractContextManager[object]:
        """bf16 matrices on CUDA, float32 on a CPU; losses are float32 on both."""
        on_cuda = self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if on_cuda else contextlib.nullcontext()

    def _to_device(self, batch: Int64[np.ndarray, "B width"]) -> Tensor:
        ids = torch.from_numpy(batch)
        if self.device.type == "cuda":
            return ids.pin_memory().to(self.device, non_blocking=True)
        return ids

    def finish(self) -> None:
        """After the last step: every rank holds whole tables."""
        for _, table in row_tables(self.decoder):
            table.join_shares()


def _averaged(decoder: Decoder, world: World) -> nn.Module:
    """The decoder, whose gradients but the tables' are averaged over ranks."""
    if world.size == 1:
        return decoder
    own = [name for name, _ in row_tables(decoder)]
    own += [name for name, _ in decoder.named_buffers()]  # equal on all ranks, or summed here
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        decoder, own
    )
    return DistributedDataParallel(decoder)


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
    load_state(
        saved, trainer.decoder, trainer.optimiser, {"loss_sum": trainer.loss_sum}, trainer.world
    )
    return Progress.read(saved.document["progress"])


def _save(trainer: Trainer, progress: Progress, checkpoints: Checkpoints) -> None:
    tensors = save_state(
        trainer.decoder, trainer.optimiser, {"loss_sum": trainer.loss_sum}, trainer.world
    )
    checkpoints.save(progress.step, tensors, asdict(progress))


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
