"""A decoder in training: one step on one batch, losses, and what stops an update."""

import contextlib

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ngscale.errors import NoResultError, UsageError
from ngscale.model.decoder import Decoder
from ngscale.train_small.checkpoint import At, ignore
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks
from ngscale.train_small.distributed import ALONE, World, gathered, share, sum_over
from ngscale.train_small.optimiser import Optimiser, rate_factor
from ngscale.train_small.row_table import put_row_tables, row_tables


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
        if self.share % training.accumulation:
            raise UsageError(
                f"--accumulation {training.accumulation}: does not divide the {self.share} blocks "
                "of a batch that a rank takes"
            )
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
                balance = self.decoder.balance_loss() / len(parts)
                (loss + balance).backward()  # type: ignore[no-untyped-call]
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
            for router in self.decoder.routers():
                sum_over(router.load, self.world)

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
        """The loss at every position of the held-out blocks, nats; ``eval_load`` of each router."""
        self.decoder.eval()
        for router in self.decoder.routers():
            router.eval_load.zero_()
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
            loss: Tensor = self.model(batch[:, :-1], batch[:, 1:])
        return loss

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
