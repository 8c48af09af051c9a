"""Amplifications put on a model's embedding while it runs, and the loss it then has.

They act on what ``embed_tokens`` puts out, which is where a design with tables has its own.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ngscale.spec import Amplification

_EPS = 1e-5
"""Of ``nn.LayerNorm``, which ``NgramEmbedding`` uses."""
_CHUNK_TOKENS = 128


@contextmanager
def amplified(
    embed_tokens: nn.Module, amplification: Amplification, factor: float | None
) -> Iterator[None]:
    """Amplify the output of ``embed_tokens`` within the context; hooks added later see it."""

    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        if amplification == "layernorm":
            return layer_normed(output, output.shape[-1])
        return None if factor is None else output * factor

    handle = embed_tokens.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def layer_normed(rows: Float[Tensor, "*T R"], width: int) -> Float[Tensor, "*T R"]:
    """LayerNorm with unit gain over every ``width`` columns."""
    parts = rows.reshape(*rows.shape[:-1], -1, width)
    return functional.layer_norm(parts, (width,), eps=_EPS).flatten(-2)


def built_in(embed_tokens: nn.Module, hidden_size: int) -> Amplification:
    """What a transformers model multiplies its word embedding by (Gemma's ``embed_scale``)."""
    scale = getattr(embed_tokens, "embed_scale", 1.0)
    factor = float(scale)
    if factor == 1:
        return "none"
    return "sqrt_d" if math.isclose(factor, math.sqrt(hidden_size), rel_tol=1e-2) else "scalar"


class LossMeter:
    """Runs a model with its head and keeps the loss of every window."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        self._logits = logits
        self.losses: list[float] = []
        """Mean over the tokens of each window that has one before it, nats/token."""

    def __call__(self, ids: Int64[Tensor, "1 T"]) -> None:
        """Run one window."""
        self.losses.append(next_token_loss(self._logits(ids), ids))


def next_token_loss(logits: Float[Tensor, "1 T V"], ids: Int64[Tensor, "1 T"]) -> float:
    """Mean cross-entropy of tokens 1.. given those before, nats/token; few in float32 at once."""
    total = torch.zeros((), dtype=torch.float64)
    for start in range(0, ids.shape[1] - 1, _CHUNK_TOKENS):
        wanted = ids[0, start + 1 : start + 1 + _CHUNK_TOKENS]
        part = logits[0, start : start + len(wanted)].float()
        total += functional.cross_entropy(part, wanted, reduction="sum").cpu()
    return float(total) / (ids.shape[1] - 1)
