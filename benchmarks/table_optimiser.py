"""What the tables' optimiser costs: whole steps with 100,000 and 20,000,000 rows, and dense AdamW.

Two questions, each answered within one run:

1. Do time and memory of a step follow the rows owned? A decoder with four tables of 100,000 or of
   20,000,000 rows in all (width 32, float32), steps of both in turns. Both look up the same 40,000
   rows in the same order, spread over the whole of either table: medians, the median of the ratios
   within a pair, and what the optimiser has grown by, in bytes of its arrays and in resident pages.
2. What does the table update cost beside dense AdamW on the same table? From the gradient of the
   rows looked up to the updated weights: row-wise Adam; torch's SparseAdam (sparse gradients);
   torch's fused AdamW (dense gradients). In turns.

    python benchmarks/table_optimiser.py
    python benchmarks/table_optimiser.py --rows 2000000 --rounds 5
"""

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.hashing.torch_twin import Lookups
from ngscale.policy import mode_policy
from ngscale.spec import longcat_spec
from ngscale.tokens import TokenStream
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.data import Blocks, cut_blocks
from ngscale.train_small.distributed import ALONE
from ngscale.train_small.row_adam import RowAdam, RowState
from ngscale.train_small.row_slots import HostSlots
from ngscale.train_small.row_table import RowTable
from ngscale.train_small.trainer import Trainer

SMALL_ROWS, WIDTH, NUM_TABLES = 100_000, 32, 4
VOCAB_SIZE = 4096
POOL = 10_000
"""Rows of each table that are ever looked up."""
BETAS, EPS, LR = (0.9, 0.95), 1e-10, 1e-3
PAGE_BYTES = 4096


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def design_of(num_rows: int) -> Design:
    """train-small's default decoder over tables of about ``num_rows`` rows in all."""
    per_table = num_rows // NUM_TABLES
    model = decoder_model(
        DecoderConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=NUM_TABLES * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            moe_intermediate_size=64,
            num_experts=16,
            num_experts_per_tok=2,
        )
    )
    spec = longcat_spec(
        vocab_size=VOCAB_SIZE,
        max_order=3,
        num_subtables=2,
        table_rows=tuple(per_table + 2 * i - 3 for i in range(NUM_TABLES)),
        policy=mode_policy("hf", 0),
    )
    return Design(model=model, ngrams=(spec,))


class SpreadRows(nn.Module):
    """In the place of the hash: one of ``POOL`` rows of each table, spread evenly over it."""

    def __init__(self, table_rows: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = torch.tensor([rows // POOL for rows in table_rows])
        self.factors = torch.tensor([31, 37, 41, 43])

    def look_up(self, tokens: Tensor, **_: Any) -> Lookups:
        """[B, T, E], a function of a token and the one before it."""
        before = tokens.roll(1, dims=1)
        codes = tokens.unsqueeze(-1) * self.factors + 4099 * before.unsqueeze(-1)
        return Lookups(ids=codes % POOL * self.strides, reads=None)

    def averaged(self, tokens: Tensor) -> None:
        """Every position is averaged."""


def random_blocks(training: Training) -> Blocks:
    """Uniform tokens."""
    tokens = np.random.default_rng(0).integers(1, VOCAB_SIZE, 400_000, dtype=np.uint32)
    stream = TokenStream(
        tokens=tokens,
        doc_starts=np.arange(0, 400_001, 1000),
        vocab_size=VOCAB_SIZE,
        num_bytes=0,
    )
    return cut_blocks(
        stream,
        separator=0,
        seq_len=training.seq_len,
        held_out_frac=0.02,
        section_tokens=1000,
        min_train=training.batch_size,
    )


def state_bytes(state: RowState) -> int:
    """Moments, step counts, and the map from rows to them."""
    slots = state.slots
    assert isinstance(slots, HostSlots)
    arrays = (state.exp_avg, state.exp_avg_sq, state.steps)
    return sum(t.numel() * t.element_size() for t in arrays) + slots.num_bytes


class Side:
    """One of the two decoders, its times, and what its optimiser added to the process."""

    def __init__(self, num_rows: int, blocks: Blocks, training: Training) -> None:
        self.name = f"{num_rows:,} rows"
        self.times: list[float] = []
        design = design_of(num_rows)
        self.trainer = Trainer(
            Arm(name=self.name, design=design),
            blocks,
            seed=0,
            num_steps=10_000,
            training=training,
            device=torch.device("cpu"),
        )
        (self.state,) = self.trainer.optimiser.tables.states.values()
        assert design.ngram is not None
        self.trainer.decoder.embed_tokens.row_ids = SpreadRows(design.ngram.table_rows)
        with torch.no_grad():  # untouched pages would be resident once they are updated
            self.state.table.weight.fill_(1e-3)

    def step(self, number: int) -> None:
        """One training step, timed."""
        start = time.perf_counter()
        self.trainer.step(number)
        self.times.append(time.perf_counter() - start)


def whole_steps(num_rows: int, rounds: int) -> None:
    """Question 1."""
    training = Training()
    blocks = random_blocks(training)
    small, large = (Side(rows, blocks, training) for rows in (SMALL_ROWS, num_rows))
    for number in range(rounds):
        for side in (small, large) if number % 2 else (large, small):
            side.step(number)
    print(f"whole steps of {training.tokens_per_step} tokens, {rounds} rounds, 3 to warm up")
    for side in (small, large):
        print(
            f"  {side.name:>18}: {1e3 * statistics.median(side.times[3:]):.1f} ms; "
            f"{len(side.state.slots.rows()):,} rows touched; optimiser of tables "
            f"{state_bytes(side.state) / 2**20:.2f} MiB"
        )
    ratios = [b / a for a, b in zip(small.times[3:], large.times[3:], strict=True)]
    print(f"  time, median of ratios: {statistics.median(ratios):.3f}")
    print(f"  optimiser's bytes, ratio: {state_bytes(large.state) / state_bytes(small.state):.3f}")
    growths = [growth_in_a_process(rows, rounds) for rows in (SMALL_ROWS, num_rows)]
    print(
        "  resident growth of a process over its steps, backbone's optimiser included: "
        f"{growths[0] / 2**20:.2f} and {growths[1] / 2**20:.2f} MiB, "
        f"ratio {growths[1] / growths[0]:.3f}"
    )


def growth_in_a_process(num_rows: int, rounds: int) -> int:
    """Resident bytes that a fresh process gains from its first step to its last."""
    command = [sys.executable, __file__, "--growth", str(num_rows), "--rounds", str(rounds)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grow(num_rows: int, rounds: int) -> None:
    """What that process does."""
    training = Training()
    side = Side(num_rows, random_blocks(training), training)
    before = resident_bytes()
    for number in range(rounds):
        side.step(number)
    gc.collect()
    print(resident_bytes() - before)


def table_updates(num_rows: int, num_ids: int, rounds: int) -> None:
    """Question 2; SparseAdam, which holds as much as AdamW, only where there is room for both."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(0, num_rows, (num_ids,), generator=generator) for _ in range(rounds)]
    grads = [torch.randn(num_ids, WIDTH, generator=generator) for _ in range(rounds)]

    def row_wise() -> Callable[[Tensor, Tensor], None]:
        table = RowTable(torch.zeros(num_rows, WIDTH), ALONE)
        adam = RowAdam([("t", table)], lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0)
        one, go = torch.tensor(1.0), torch.tensor(True)

        def step(rows: Tensor, grad: Tensor) -> None:
            table(rows).backward(grad)
            adam.take_gradients(grad.device)
            adam.step(scale=one, go=go)

        return step

    def of_torch(
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], *, sparse: bool
    ) -> Callable[[Tensor, Tensor], None]:
        weight = nn.Parameter(torch.zeros(num_rows, WIDTH))
        optimiser = make([weight])

        def step(rows: Tensor, grad: Tensor) -> None:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.embedding(rows, weight, sparse=sparse).backward(grad)
            optimiser.step()

        return step

    contestants = {
        "row-wise Adam": row_wise(),
        "torch fused AdamW": of_torch(
            lambda weights: torch.optim.AdamW(
                weights, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True
            ),
            sparse=False,
        ),
    }
    if num_rows <= 5_000_000:
        contestants["torch SparseAdam"] = of_torch(
            lambda weights: torch.optim.SparseAdam(weights, lr=LR, betas=BETAS, eps=EPS),
            sparse=True,
        )
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for rows, grad in zip(ids, grads, strict=True):
        for name, step in contestants.items():
            start = time.perf_counter()
            step(rows, grad)
            times[name].append(time.perf_counter() - start)
    print(f"update of {num_ids:,} look-ups in {num_rows:,} rows of {WIDTH}, {rounds} rounds")
    ours = times["row-wise Adam"]
    for name, measured in times.items():
        ratios = [b / a for a, b in zip(ours[1:], measured[1:], strict=True)]
        print(
            f"  {name:>18}: {1e3 * statistics.median(measured[1:]):9.2f} ms, "
            f"{statistics.median(ratios):8.1f} times row-wise Adam"
        )


def main() -> None:
    """Both questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--update-rows", type=int, nargs="*", default=[1_000_000, 20_000_000])
    parser.add_argument("--rounds", type=int, default=23)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--growth", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.growth is not None:
        grow(arguments.growth, arguments.rounds)
        return
    whole_steps(arguments.rows, arguments.rounds)
    gc.collect()
    for num_rows in arguments.update_rows:
        table_updates(num_rows, NUM_TABLES * 1024, max(5, arguments.rounds // 2))
        gc.collect()


if __name__ == "__main__":
    main()
