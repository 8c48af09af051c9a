"""What probing costs beside a plain forward pass of the same model and tokens.

Plain and probed passes alternate; the medians are compared. Without --model a random Llama of 12
layers, 512 wide, stands in. Nothing is peered: no other tool measures this.

    python benchmarks/probe_overhead.py
    python benchmarks/probe_overhead.py --model out/smollm2-135m
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

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


def seconds(run: Callable[[], object]) -> float:
    """Processor time of all threads, which other processes disturb less than the clock."""
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    """Print the median of both and the overhead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
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
    base, with_hooks = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratios = sorted(second / first - 1 for first, second in pairs)
    print(
        f"{arguments.tokens} tokens, {len(structure.layers)} layers: plain {base:.3f} s, probed "
        f"{with_hooks:.3f} s (processor time, median of {arguments.repeats}); overhead "
        f"{statistics.median(ratios):.1%} ({ratios[0]:.1%} to {ratios[-1]:.1%})"
    )


if __name__ == "__main__":
    main()
