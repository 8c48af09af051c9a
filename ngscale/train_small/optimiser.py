"""Fused AdamW for the backbone, row-wise Adam for the tables, one schedule and one clipping."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.tensor_groups import group_of
from ngscale.train_small.config import Training
from ngscale.train_small.row_adam import RowAdam
from ngscale.train_small.row_table import row_tables

_BETAS = (0.9, 0.95)
_EPS = 1e-10


class Optimiser:
    """Both optimisers of a decoder, whose tables are ``RowTable``.

    Tables: Adam, rate times ``table_lr_factor``, no weight decay (Engram, arXiv:2601.07372,
    table 5; DeepSeek-V4.1 does the same).

    Word embedding: the rate times the ``1 + E`` that the fusion divides it by. A step of Adam has
    the size of the rate whatever the scale of the gradient, so at the plain rate the words of an
    arm with tables would move 1 + E times slower than those of one without: in a trial of 123k
    tokens placebo and design then lost 0.3 and 0.5 nats to the MoE, an artefact of the optimiser.
    """

    def __init__(self, decoder: Decoder, training: Training) -> None:
        self.training = training
        self.backbone = torch.optim.AdamW(
            _groups(decoder, training), betas=_BETAS, eps=_EPS, fused=True
        )
        self.tables = RowAdam(
            list(row_tables(decoder)),
            lr=training.learning_rate * training.table_lr_factor,
            betas=_BETAS,
            eps=_EPS,
            weight_decay=training.table_weight_decay,
        )
        self.weights = [
            weight for group in self.backbone.param_groups for weight in group["params"]
        ]

    def zero_grad(self) -> None:
        """Drop the gradients of the last step."""
        self.backbone.zero_grad(set_to_none=True)

    def set_rate(self, factor: float) -> None:
        """Set every group's learning rate to ``factor`` times its peak."""
        for group in self.backbone.param_groups:
            group["lr"] = factor * group["peak"]
        self.tables.lr = factor * self.tables.peak

    def clip(self, max_norm: float) -> tuple[Tensor, Tensor]:
        """The norm of all gradients, tables' included, and the factor that brings it down.

        The backbone's are multiplied by it here, the tables' in ``step``.
        """
        grads = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        norm = (norm.square() + self.tables.take_gradients(norm.device)).sqrt()
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, scale)
        return norm, scale

    def step(self, *, scale: Tensor, failed: Tensor) -> None:
        """Update all weights, or none where ``failed`` is not 0; the host does not wait to know."""
        go: Bool[Tensor, ""] = failed == 0
        self.backbone.found_inf = failed  # type: ignore[attr-defined]
        self.backbone.step()
        self.tables.step(scale=scale, go=go)


def _groups(decoder: Decoder, training: Training) -> list[dict[str, object]]:
    """Decayed matrices, norms and other vectors, the word embedding."""
    embedding = decoder.embed_tokens
    word_factor = 1 + embedding.spec.num_tables if isinstance(embedding, NgramEmbedding) else 1
    members: dict[str, list[nn.Parameter]] = {}
    for name, weight in decoder.named_parameters():
        group = group_of(name)
        if group == "ngram_tables":
            continue
        kind = (
            "words" if group == "word_embedding" else "matrices" if weight.ndim > 1 else "vectors"
        )
        members.setdefault(kind, []).append(weight)
    return [
        {
            "params": weights,
            "lr": training.learning_rate * (word_factor if kind == "words" else 1),
            "peak": training.learning_rate * (word_factor if kind == "words" else 1),
            "weight_decay": training.weight_decay if kind == "matrices" else 0.0,
        }
        for kind, weights in members.items()
    ]


def rate_factor(step: int, num_steps: int, training: Training) -> float:
    """The rate at ``step`` (from 0) as a share of the peak: linear warmup, then the schedule.

    ``wsd``: a plateau, then linearly to 0; also called trapezoidal (arXiv:2404.06395). Unlike the
    ``cosine`` (arXiv:1608.03983, to 0 in one period), its plateau does not depend on the number of
    steps.
    """
    warmup = max(1, round(training.warmup_frac * num_steps))
    rise = min(1.0, (step + 1) / warmup)
    if training.schedule == "cosine":
        done = max(0, step + 1 - warmup) / max(1, num_steps + 1 - warmup)
        return rise * 0.5 * (1 + math.cos(math.pi * done))
    decay = max(1, round(training.decay_frac * num_steps))
    return min(rise, (num_steps - step) / decay)
