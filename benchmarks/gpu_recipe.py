"""The one-hour recipe on a GPU: what it needs, how fast a step is, and that it never waits.

Prints the design's parameters, the least memory, tokens/s, model FLOPs utilisation (three times the
forward FLOPs of `ngscale budget` over the device's peak), peak memory, and whether steps ran
without a host sync (torch's sync debug mode raises otherwise). Writes the design's config.json,
with the command that trains its arms for an hour. On a CPU the same steps run, without peak, sync
and MFU.

    python -m benchmarks.gpu_recipe --out gpu-recipe            # on the GPU
    python -m benchmarks.gpu_recipe --small --steps 2           # does it run at all
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from benchmarks.table_optimiser import random_blocks
from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.budget import flops
from ngscale.design import Design, decoder_config
from ngscale.params import most_active, total_parameters
from ngscale.policy import mode_policy
from ngscale.records import dump_json
from ngscale.row_counts import longcat_rows
from ngscale.spec import longcat_spec, order_major
from ngscale.table_sizes import sound_ratio
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.distributed import ALONE
from ngscale.train_small.memory import least_bytes
from ngscale.train_small.trainer import Trainer
from ngscale.units import format_bytes, format_count

RATIO = 10.4
"""Rows of a table over V0, before it is moved to a sound size; 47% of all parameters then."""


def design_of(small: bool) -> Design:
    """Lite's N, K, share and sparsity on ngscale's decoder; V0 is that of bpe-32768."""
    config = DecoderConfig(
        vocab_size=4096 if small else 32_768,
        hidden_size=96 if small else 768,
        num_hidden_layers=2 if small else 8,
        num_attention_heads=3 if small else 12,
        num_key_value_heads=1 if small else 4,
        head_dim=32 if small else 64,
        moe_intermediate_size=32 if small else 192,
        num_experts=8 if small else 64,
        num_experts_per_tok=2 if small else 8,
    )
    orders = order_major(4, 4)
    ratio = sound_ratio(RATIO, config.vocab_size, orders)
    assert ratio is not None
    spec = longcat_spec(
        vocab_size=config.vocab_size,
        max_order=4,
        num_subtables=4,
        table_rows=longcat_rows(ratio, config.vocab_size, len(orders)),
        policy=mode_policy("hf", 0),
    )
    return Design(model=decoder_model(config), ngrams=(spec,))


def flops_per_token(design: Design, seq_len: int) -> float:
    """Of a training step: forward and twice that backward."""
    matmuls = sum(line.value for line in flops.matmuls(design, most=True))
    return 3 * (matmuls + flops.pairs(design, seq_len, decode=False).value / seq_len)


def step_seconds(trainer: Trainer, steps: int, device: torch.device) -> list[float]:
    """Of ``steps`` steps, after three that warm up; on CUDA none may wait for the device."""
    for index in range(3):
        trainer.step(index)
    times = []
    for index in range(3, 3 + steps):
        _wait(device)
        start = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            trainer.step(index)
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        _wait(device)
        times.append(time.perf_counter() - start)
    trainer.check()
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print what the recipe needs and reaches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=0, help="sequences; 64, small: 4")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="bf16 dense; H100 SXM")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    design = design_of(options.small)
    training = Training(batch_size=options.batch or (4 if options.small else 64))
    arm = Arm(name="design", design=design)
    active = most_active(design)
    print(
        f"{format_count(total_parameters(design))} parameters, {format_count(active)} active; at "
        f"least {format_bytes(least_bytes(arm, training, ALONE))}, {device.type}"
    )
    trainer = Trainer(
        arm, random_blocks(training), seed=0, num_steps=100_000, training=training, device=device
    )
    seconds = statistics.median(step_seconds(trainer, options.steps, device))
    rate = training.tokens_per_step / seconds
    print(
        f"{training.tokens_per_step:,} tokens a step, {seconds * 1e3:.1f} ms, {rate:,.0f} tokens/s"
    )
    if device.type == "cuda":
        used = rate * flops_per_token(design, training.seq_len) / (options.peak_tflops * 1e12)
        peak = format_bytes(torch.cuda.max_memory_allocated())
        print(f"MFU {used:.1%} of {options.peak_tflops} TFLOP/s, {peak} at the peak, no host sync")
    print(f"one hour: {format_count(3600 * rate)} tokens in all arms and seeds together")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "config.json").write_text(dump_json(decoder_config(design)))
        print(
            f"ngscale train-small {options.out} --corpus english --tokenizer bpe-32768 --hours 1 "
            f"--out {options.out}/report"
        )


if __name__ == "__main__":
    main()
