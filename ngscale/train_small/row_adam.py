"""Adam for tables, row by row: cost and memory follow the rows that are looked up.

A row that a step looks up is updated as dense AdamW would; any other keeps its weight and its
moments, and the step does not count for it. So a row goes through exactly the Adam of those steps
that looked it up (its bias correction counts them, too), and its moments do not decay meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ngscale.errors import InputError
from ngscale.train_small.distributed import sum_over
from ngscale.train_small.row_slots import (
    DeviceSlots,
    HostSlots,
    Slots,
    distinct_rows,
    distinct_rows_fixed,
)
from ngscale.train_small.row_table import RowTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The gradient of one step: rows in the share's own numbers, each once, and their sums."""

    rows: Int64[Tensor, " u"]
    sums: Float[Tensor, "u d"]
    count: Tensor | None
    """How many of ``rows`` are distinct, the rest repeating the first; None: all are."""

    def squared_norm(self) -> Tensor:
        """Of the sums, repetitions left out."""
        squares = self.sums.square().sum(1)
        if self.count is None:
            return squares.sum()
        counted = torch.arange(len(squares), device=squares.device) < self.count
        return torch.where(counted, squares, 0).sum()


class RowState:
    """Moments and step counts of the rows that one table has seen."""

    def __init__(self, table: RowTable, *, on_device: bool | None = None) -> None:
        """``on_device``: without waiting for the host; as the device needs it, where None."""
        weight = table.weight
        self.table = table
        self.on_device = weight.device.type != "cpu" if on_device is None else on_device
        self.slots: Slots = (
            DeviceSlots(len(weight), weight.device) if self.on_device else HostSlots()
        )
        width = weight.shape[1]
        self.exp_avg = weight.new_zeros(self.slots.capacity, width, requires_grad=False)
        self.exp_avg_sq = torch.zeros_like(self.exp_avg)
        self.steps = torch.zeros(self.slots.capacity, dtype=torch.int32, device=weight.device)

    def take_gradient(self) -> Touched | None:
        """What the backward passes since the last call have left; None without any."""
        pending, self.table.pending = self.table.pending, []
        num_rows = len(self.table.weight)
        if not pending or not num_rows:
            return None
        ids = torch.cat([ids for ids, _ in pending])
        values = torch.cat([values for _, values in pending])
        if self.on_device:
            rows, sums, count = distinct_rows_fixed(ids, values, num_rows)
            return Touched(rows=rows, sums=sums, count=count)
        rows, sums = distinct_rows(ids, values, num_rows)
        return Touched(rows=rows, sums=sums, count=None)

    @torch.no_grad()
    def update(
        self,
        touched: Touched,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        scale: Tensor,
        go: Bool[Tensor, ""],
    ) -> None:
        """One step of the touched rows by ``scale`` times their gradient, unless ``go`` says no.

        m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2,
        w = (1 - lr wd) w - lr m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps), t the row's own steps
        (arXiv:1412.6980, algorithm 1; decay as in arXiv:1711.05101).
        """
        slots = self.slots.find_or_add(touched.rows, touched.count)
        self._grow()
        if touched.count is not None:
            go = go & (touched.count > 0)
        beta1, beta2 = betas
        grad = touched.sums * scale
        steps = self.steps.index_select(0, slots) + 1
        # Not [slots]: a third of the time on a CPU.
        exp_avg = self.exp_avg.index_select(0, slots)
        exp_avg_sq = self.exp_avg_sq.index_select(0, slots)
        weight = self.table.weight.index_select(0, touched.rows)
        new_avg = exp_avg.lerp(grad, 1 - beta1)
        new_sq = (beta2 * exp_avg_sq).addcmul_(grad, grad, value=1 - beta2)
        times = steps.double().unsqueeze(1)
        rate = (lr / (1 - beta1**times)).to(weight.dtype)
        root = (1 - beta2**times).sqrt().to(weight.dtype)
        denominator = (new_sq.sqrt() / root).add_(eps)
        new_weight = weight * (1 - lr * weight_decay) - rate * (new_avg / denominator)
        for target, places, new, old in (
            (self.exp_avg, slots, new_avg, exp_avg),
            (self.exp_avg_sq, slots, new_sq, exp_avg_sq),
            (self.steps, slots, steps, steps - 1),
            (self.table.weight, touched.rows, new_weight, weight),
        ):
            target.index_copy_(0, places, torch.where(go, new, old))

    def tensors(self) -> dict[str, Tensor]:
        """Rows in order, counted over all ranks, with their state: the same whoever held them."""
        rows = self.slots.rows()
        order = rows.argsort()
        return {
            "rows": rows[order] + self.table.start,
            "exp_avg": self.exp_avg[: len(rows)][order],
            "exp_avg_sq": self.exp_avg_sq[: len(rows)][order],
            "steps": self.steps[: len(rows)][order],
        }

    @torch.no_grad()
    def load(self, saved: Mapping[str, Tensor], source: str) -> None:
        """Take up the state of those of the saved rows that this rank holds.

        Raises:
            InputError: the rows are not distinct rows of the table; ``source`` names the file.
        """
        rows, steps = saved["rows"], saved["steps"]
        if len(rows) and (
            int(rows.min()) < 0
            or int(rows.max()) >= self.table.num_rows
            or bool((rows.sort().values.diff() == 0).any())
            or int(steps.min()) < 0
        ):
            raise InputError(
                f"{source}: rows: must be distinct, from 0 to {self.table.num_rows - 1}; "
                "the checkpoint is damaged: remove its directory to resume from the one before"
            )
        held = (rows >= self.table.start) & (rows < self.table.end)
        if not bool(held.any()):
            return
        own = (rows[held] - self.table.start).to(self.table.weight.device)
        slots = self.slots.find_or_add(own, None)
        self._grow()
        self.exp_avg[slots] = saved["exp_avg"][held].to(own.device)
        self.exp_avg_sq[slots] = saved["exp_avg_sq"][held].to(own.device)
        self.steps[slots] = steps[held].to(own.device)

    def _grow(self) -> None:
        for name in ("exp_avg", "exp_avg_sq", "steps"):
            before = getattr(self, name)
            if len(before) < self.slots.capacity:
                after = before.new_zeros(self.slots.capacity, *before.shape[1:])
                after[: len(before)] = before
                setattr(self, name, after)


class RowAdam:
    """The optimiser of all tables of a decoder."""

    def __init__(
        self,
        tables: list[tuple[str, RowTable]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        self.states = {name: RowState(table) for name, table in tables}
        self.world = tables[0][1].world if tables else None
        self.peak = self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self._touched: dict[str, Touched] = {}

    def take_gradients(self, device: torch.device) -> Tensor:
        """Form the gradients of this step; their squared norm over all ranks."""
        total = torch.zeros((), device=device)
        self._touched = {}
        for name, state in self.states.items():
            if (touched := state.take_gradient()) is not None:
                self._touched[name] = touched
                total = total + touched.squared_norm()
        return total if self.world is None else sum_over(total, self.world)

    def step(self, *, scale: Tensor, go: Bool[Tensor, ""]) -> None:
        """Update the rows of the last ``take_gradients``."""
        for name, touched in self._touched.items():
            self.states[name].update(
                touched,
                lr=self.lr,
                betas=self.betas,
                eps=self.eps,
                weight_decay=self.weight_decay,
                scale=scale,
                go=go,
            )
        self._touched = {}

    def refresh(self) -> None:
        """Let the host know how many rows have state; waits for the device."""
        for state in self.states.values():
            state.slots.refresh()
