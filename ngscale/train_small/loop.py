"""One run: train a decoder on its batches, watch the losses, stop on what is not finite."""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from ngscale.errors import NoResultError
from ngscale.model.decoder import Decoder
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks
from ngscale.train_small.optimiser import make_optimiser, rate_factor, set_rate

_CUDA_CHECK_STEPS = 20
"""Steps between looks at the device; on a CPU every step is looked at."""


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


class Trainer:
    """A decoder, its optimiser and its running losses, all on one device.

    A step makes no host sync on CUDA: losses add up on the device and are read at log points. A
    loss or gradient that is not finite raises a flag that fused AdamW takes as ``found_inf``: it
    then leaves all weights alone, in that step and in every later one, until the flag is read.
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
    ) -> None:
        self.arm = arm
        self.blocks = blocks
        self.seed = seed
        self.num_steps = num_steps
        self.training = training
        self.device = device
        decoder = Decoder(arm.design)
        decoder.initialise(seed)
        self.decoder = decoder.to(device)
        self.optimiser = make_optimiser(self.decoder, training)
        self.loss_sum = torch.zeros((), device=device)
        self.failed = torch.zeros((), device=device)
        self.failed_step = torch.full((), -1.0, device=device)
        self.optimiser.found_inf = self.failed  # type: ignore[attr-defined]

    def step(self, step: int) -> None:
        """One optimiser step on the batch of ``(seed, step)``."""
        self.decoder.train()
        batch = self._to_device(
            self.blocks.batch(seed=self.seed, step=step, batch_size=self.training.batch_size)
        )
        set_rate(self.optimiser, rate_factor(step, self.num_steps, self.training))
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self.decoder.parameters(), self.training.max_grad_norm
        )
        self._watch(step, loss.detach(), norm)
        self.optimiser.step()
        self.decoder.balance_experts(self.training.balance_rate)

    def _watch(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        bad = ~(torch.isfinite(loss) & torch.isfinite(grad_norm))
        first = bad & (self.failed == 0)
        self.failed_step.copy_(torch.where(first, step, self.failed_step))
        self.failed.copy_(torch.maximum(self.failed, bad.float()))
        self.loss_sum += loss

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

    def take_train_loss(self, num_steps: int) -> float:
        """Mean loss of the last ``num_steps`` steps; starts the next mean."""
        mean = self.loss_sum.item() / num_steps
        self.loss_sum.zero_()
        return mean

    @torch.no_grad()
    def evaluate(self) -> float:
        """Mean loss over the held-out blocks, nats/token."""
        self.decoder.eval()
        blocks = self.blocks.held_out[: self.training.max_eval_blocks]
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        size = self.training.batch_size
        for start in range(0, len(blocks), size):
            batch = self._to_device(blocks[start : start + size].astype("int64"))
            total += self._loss(batch).double() * len(batch)
        return total.item() / len(blocks)

    def _loss(self, batch: Tensor) -> Tensor:
        """Cross-entropy of the next token, in float32 whatever the matrices ran in."""
        on_cuda = self.device.type == "cuda"
        mixed = torch.autocast("cuda", torch.bfloat16) if on_cuda else contextlib.nullcontext()
        with mixed:
            logits = self.decoder(batch[:, :-1])  # (B, T, V0)
        return functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())

    def _to_device(self, batch: Int64[np.ndarray, "B width"]) -> Tensor:
        ids = torch.from_numpy(batch)
        if self.device.type == "cuda":
            return ids.pin_memory().to(self.device, non_blocking=True)
        return ids


def train(
    trainer: Trainer, *, deadline: float = math.inf, advance: Callable[[], None] = lambda: None
) -> RunResult:
    """Train to the end; ``deadline`` is a ``time.monotonic()``.

    Raises:
        NoResultError: a loss is not finite.
        OutOfTimeError: the deadline passed.
    """
    training, num_steps = trainer.training, trainer.num_steps
    log_steps = _evenly(training.num_train_points, num_steps)
    eval_steps = _evenly(training.num_evals, num_steps)
    check_every = _CUDA_CHECK_STEPS if trainer.device.type == "cuda" else 1
    train_curve: list[tuple[int, float]] = []
    val_curve: list[tuple[int, float]] = []
    last_logged = 0
    for step in range(num_steps):
        trainer.step(step)
        done = step + 1
        tokens = done * training.tokens_per_step
        if done % check_every == 0 or done in log_steps or done in eval_steps:
            trainer.check()
            if time.monotonic() > deadline:
                raise OutOfTimeError
        if done in log_steps:
            train_curve.append((tokens, trainer.take_train_loss(done - last_logged)))
            last_logged = done
        if done in eval_steps:
            val_curve.append((tokens, trainer.evaluate()))
        advance()
    return RunResult(
        val_loss_nats=val_curve[-1][1],
        train_curve=tuple(train_curve),
        val_curve=tuple(val_curve),
    )


def _evenly(count: int, num_steps: int) -> frozenset[int]:
    """Up to ``count`` of 1..num_steps, evenly spaced, the last one among them."""
    return frozenset(math.ceil((i + 1) * num_steps / count) for i in range(count))
