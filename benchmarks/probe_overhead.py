"""What probing costs beside a plain forward pass of the same model and tokens.

Plain and probed passes alternate, many short pairs; the median of the pairs' ratios is told, by
processor time of all threads and by the clock, with the quartiles. Without --model a random Llama
of 12 layers, 512 wide, stands in. Nothing is peered: no other tool measures this.

    python benchmarks/probe_overhead.py
    python benchmarks/probe_overhead.py --model out/smollm2-135m --threads 1
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command does

import numpy as np
import torch

from ngscale.probe.load import load_checkpoint
from ngscale.probe.norms import measure
from ngscale.probe.structure import Structure, find_structure


def stand_in() -> Structure:
    """A random decoder of about 40M parameters."""
    import transformers

    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=4,
    )
    return find_structure(transformers.LlamaForCausalLM(config).eval(), "stand-in")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Processor time of all threads, which other processes disturb less, and the clock's."""
    start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def main() -> None:
    """Print the medians of both and the overhead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    structure = (
        stand_in()
        if arguments.model is None
        else load_checkpoint(arguments.model, device="cpu").structure
    )
    ids = np.random.default_rng(0).integers(3, 4000, size=(1, arguments.tokens))

    def forward(tokens: torch.Tensor) -> object:
        return structure.backbone(input_ids=tokens, use_cache=False)

    def plain() -> None:
        with torch.inference_mode():
            forward(torch.from_numpy(ids))

    def probed() -> None:
        measure(structure, forward, ids, device=torch.device("cpu"), done=lambda: None)

    plain()
    probed()
    pairs = [(seconds(plain), seconds(probed)) for _ in range(arguments.repeats)]
    print(
        f"{arguments.tokens} tokens, {len(structure.layers)} layers, {arguments.threads} threads, "
        f"{arguments.repeats} pairs"
    )
    for index, clock in enumerate(("processor time", "wall time")):
        ratios = [probed[index] / plain[index] - 1 for plain, probed in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        base = statistics.median(plain[index] for plain, _ in pairs)
        print(
            f"{clock}: plain {base:.3f} s, overhead {middle:.1%} "
            f"(quartiles {low:.1%} to {high:.1%})"
        )


if __name__ == "__main__":
    main()
