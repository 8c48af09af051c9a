"""Cross-entropy of a linear head, some rows of logits at a time."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ngscale.model.precision import autocast_dtype

_CHUNK_VALUES = 2**20
"""Logits held at once, in float32."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean over the rows of ``logsumexp(logits) - logits[target]``, logits = hidden @ weight.T.

    The gradient of a sum of rows is linear in the gradient of the mean, so it is made while a
    chunk's logits are at hand: no logits outlive their chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "S D"],
        weight: Float[Tensor, "V D"],
        targets: Int64[Tensor, " S"],
    ) -> Tensor:
        num_rows, share = max(1, _CHUNK_VALUES // len(weight)), 1 / len(hidden)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        # Summed in float32: a sum of bfloat16 chunks would lose their low bits.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), num_rows):
            part = hidden[start : start + num_rows]
            wanted = targets[start : start + num_rows]
            logits = (part @ weight.T).float()  # (C, V)
            of_target = logits.gather(1, wanted.unsqueeze(1))
            peak = logits.amax(dim=1, keepdim=True)
            powers = logits.sub_(peak).exp_()  # in place: the logits are not needed again
            summed = powers.sum(dim=1, keepdim=True)
            total += (summed.log() + peak - of_target).sum()
            # softmax = powers / summed, divided where there are D columns instead of V.
            scale = share / summed
            powers = powers.to(part.dtype)
            if grad_hidden is not None:
                mean = (powers @ weight).float() * scale
                grad_hidden[start : start + num_rows] = mean - share * weight[wanted].float()
            if grad_weight is not None:
                scaled = part.float() * scale
                if part.dtype == torch.float32:
                    grad_weight.addmm_(powers.T, scaled)
                else:
                    grad_weight += powers.T @ scaled.to(part.dtype)
                grad_weight.index_add_(0, wanted, part.float(), alpha=-share)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total * share

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        (upstream,) = grads
        return (
            None if grad_hidden is None else grad_hidden * upstream.to(grad_hidden.dtype),
            None if grad_weight is None else (grad_weight * upstream).to(ctx.weight_dtype),
            None,
        )


def linear_cross_entropy(
    hidden: Float[Tensor, "*B D"], weight: Float[Tensor, "V D"], targets: Int64[Tensor, "*B"]
) -> Float[Tensor, ""]:
    """Mean next-token loss, nats: cross-entropy of ``hidden @ weight.T`` in float32.

    In autocast's dtype where it is on. At most 2**20 logits are in memory at a time.
    """
    if (dtype := autocast_dtype(hidden)) is not None:
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden.flatten(0, -2), weight, targets.flatten()
    )
    return loss
