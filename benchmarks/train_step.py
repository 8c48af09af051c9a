"""A whole training step beside transformers' Qwen3-MoE of the same shape, and with n-gram tables.

Forward, loss, backward, clipping and AdamW on the same random tokens, float32, in one process with
the same threads; contenders alternate, medians of wall and processor time per step, and of the
ratios within a round. The peer has the fastest of its experts implementations, found first.

    python -m benchmarks.train_step --rounds 15 --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.table_optimiser import random_blocks
from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.policy import mode_policy
from ngscale.spec import NgramSpec, longcat_spec
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.trainer import Trainer

_IMPLEMENTATIONS = ("eager", "grouped_mm")
"""batched_mm copies an expert's weights for every token: 13 times slower here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One of the two shapes of the claim."""

    name: str
    hidden_size: int
    num_experts: int
    top_k: int
    moe_intermediate_size: int
    num_layers: int = 4
    vocab_size: int = 8192

    def config(self) -> DecoderConfig:
        """Ours."""
        return DecoderConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.hidden_size // 32,
            num_key_value_heads=self.hidden_size // 64,
            head_dim=32,
            moe_intermediate_size=self.moe_intermediate_size,
            num_experts=self.num_experts,
            num_experts_per_tok=self.top_k,
        )


SHAPES = (
    Shape(
        name="4 layers, D 128, 16 experts top-2, V 8,192",
        hidden_size=128,
        num_experts=16,
        top_k=2,
        moe_intermediate_size=128,
    ),
    Shape(
        name="4 layers, D 256, 64 experts top-8, V 8,192",
        hidden_size=256,
        num_experts=64,
        top_k=8,
        moe_intermediate_size=128,
    ),
)


def tables(shape: Shape) -> NgramSpec:
    """About as many parameters as the experts hold, N = 3 and K = 2."""
    return longcat_spec(
        vocab_size=shape.vocab_size,
        max_order=3,
        num_subtables=2,
        table_rows=tuple(int(4.31 * shape.vocab_size) + 2 * i + 1 for i in range(4)),
        policy=mode_policy("hf", 0),
    )


def ours(shape: Shape, training: Training, spec: NgramSpec | None) -> Callable[[int], None]:
    """A step of train-small."""
    design = Design(model=decoder_model(shape.config()), ngrams=() if spec is None else (spec,))
    trainer = Trainer(
        Arm(name="ours", design=design),
        random_blocks(training),
        seed=0,
        num_steps=10_000,
        training=training,
        device=torch.device("cpu"),
    )
    return trainer.step


def theirs(shape: Shape, training: Training, implementation: str) -> Callable[[int], None]:
    """The same step around transformers' model: fused AdamW, clipping, its own loss."""
    from transformers import AutoConfig, Qwen3MoeForCausalLM

    own = shape.config()
    config: Any = AutoConfig.for_model(
        "qwen3_moe",
        vocab_size=own.vocab_size,
        hidden_size=own.hidden_size,
        intermediate_size=own.moe_intermediate_size,
        moe_intermediate_size=own.moe_intermediate_size,
        num_hidden_layers=own.num_hidden_layers,
        num_attention_heads=own.num_attention_heads,
        num_key_value_heads=own.num_key_value_heads,
        head_dim=own.head_dim,
        num_experts=own.num_experts,
        num_experts_per_tok=own.num_experts_per_tok,
        tie_word_embeddings=False,
        use_cache=False,
    )
    config._experts_implementation = implementation
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model: Any = Qwen3MoeForCausalLM(config).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    blocks = random_blocks(training)

    def step(index: int) -> None:
        batch: Tensor = torch.from_numpy(
            blocks.batch(seed=0, step=index, batch_size=training.batch_size).astype(np.int64)
        )
        optimiser.zero_grad(set_to_none=True)
        logits = model(input_ids=batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    return step


def timed(step: Callable[[int], None], index: int) -> tuple[float, float]:
    """Wall and processor seconds of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    step(index)
    return time.perf_counter() - wall, time.process_time() - cpu


def fastest(shape: Shape, training: Training) -> str:
    """The peer's experts implementation with the lowest median of a few steps."""
    found = {}
    for implementation in _IMPLEMENTATIONS:
        step = theirs(shape, training, implementation)
        try:
            step(0)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            print(f"  {implementation}: cannot run here ({str(error).splitlines()[0][:60]})")
            continue
        found[implementation] = statistics.median(timed(step, i)[1] for i in range(1, 5))
    told = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in found.items())
    print(f"  transformers' experts, processor time of a step: {told}")
    return min(found, key=lambda name: found[name])


def main() -> None:
    """Measure both shapes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = Training()
    tokens = training.tokens_per_step
    print(f"{tokens} tokens a step, {options.threads} threads, {options.rounds} rounds")
    for shape in SHAPES:
        print(shape.name)
        steps = {
            "transformers": theirs(shape, training, fastest(shape, training)),
            "ngscale": ours(shape, training, None),
            "ngscale, tables": ours(shape, training, tables(shape)),
        }
        for step in steps.values():
            step(0)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
        for index in range(1, options.rounds + 1):
            for name, step in steps.items():
                times[name].append(timed(step, index))
        for name, found in times.items():
            wall, cpu = (statistics.median(one[i] for one in found) for i in (0, 1))
            print(
                f"  {name:16}{wall * 1e3:8.0f} ms wall{cpu * 1e3:8.0f} ms CPU"
                f"{tokens / wall:10,.0f} tokens/s"
            )
        for name, peer in (("ngscale", "transformers"), ("ngscale, tables", "ngscale")):
            wall, cpu = (
                statistics.median(
                    theirs_[i] / own[i]
                    for own, theirs_ in zip(times[name], times[peer], strict=True)
                )
                for i in (0, 1)
            )
            print(f"  {name}: {wall:.2f}x the tokens/s of {peer} by wall, {cpu:.2f}x by CPU")


if __name__ == "__main__":
    main()
