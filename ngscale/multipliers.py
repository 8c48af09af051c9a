"""The odd multipliers of the multiply-XOR hashes, from the seeds that published models use."""

_MASK64 = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_LAYER_PRIME = 10007


def _half_bound(vocab_size: int) -> int:
    """Half of what an id below ``vocab_size`` can be multiplied by within 63 bits."""
    return (2**63 - 1) // vocab_size // 2


def engram_multipliers(seed: int, layer: int, vocab_size: int, max_order: int) -> tuple[int, ...]:
    """``2r + 1`` with r from numpy's generator, whose stream (PCG64) is part of the format.

    ``vocab_size`` counts compressed ids. Source: ``engram_demo_v1.py``; DeepSeek-V4.1 in vLLM
    0.33.0.
    """
    import numpy as np

    generator = np.random.default_rng(seed + _LAYER_PRIME * layer)
    draws = generator.integers(0, _half_bound(vocab_size), size=max_order, dtype=np.int64)
    return tuple(2 * int(draw) + 1 for draw in draws)


def qwen_multipliers(seed: int, ple_layer: int, vocab_size: int, max_order: int) -> tuple[int, ...]:
    """``2 * (splitmix64(seed + 10007 l + G (i+1)) mod half) + 1``, l the index of the PLE layer.

    Source: transformers 5.23 ``qwen4_exp``; splitmix64: Steele, Lea and Flood, OOPSLA 2014.
    """
    start = seed + _LAYER_PRIME * ple_layer
    half = _half_bound(vocab_size)
    return tuple(
        2 * (_splitmix64(start + _GOLDEN * (place + 1)) % half) + 1 for place in range(max_order)
    )


def _splitmix64(value: int) -> int:
    value = (value + _GOLDEN) & _MASK64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK64
    return value ^ (value >> 31)
