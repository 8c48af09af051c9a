"""AdamW with the tables in a group of their own, and a warmup-stable-decay schedule."""

import torch
from torch import nn

from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.tensor_groups import group_of
from ngscale.train_small.config import Training

_DECAYED = ("ngram_projections", "attention", "experts", "router", "lm_head")


def make_optimiser(decoder: Decoder, training: Training) -> torch.optim.AdamW:
    """Fused AdamW over four groups: decayed matrices, norms, word embedding, tables.

    Tables: Adam, rate times ``table_lr_factor``, no weight decay (Engram, arXiv:2601.07372,
    table 5; DeepSeek-V4.1 does the same).

    Word embedding: the rate times the ``1 + E`` that the fusion divides it by. A step of Adam has
    the size of the rate whatever the scale of the gradient, so at the plain rate the words of an
    arm with tables would move 1 + E times slower than those of one without: in a trial of 123k
    tokens placebo and design then lost 0.3 and 0.5 nats to the MoE, an artefact of the optimiser.
    """
    embedding = decoder.embed_tokens
    word_factor = 1 + embedding.spec.num_tables if isinstance(embedding, NgramEmbedding) else 1
    members: dict[str, list[nn.Parameter]] = {}
    for name, weight in decoder.named_parameters():
        group = group_of(name)
        members.setdefault("matrices" if group in _DECAYED else group, []).append(weight)
    factors = {"word_embedding": word_factor, "ngram_tables": training.table_lr_factor}
    groups = [
        {
            "params": weights,
            "lr": training.learning_rate * factors.get(kind, 1),
            "peak": training.learning_rate * factors.get(kind, 1),
            "weight_decay": training.weight_decay if kind == "matrices" else 0.0,
        }
        for kind, weights in members.items()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, fused=True)


def set_rate(optimiser: torch.optim.AdamW, factor: float) -> None:
    """Set every group's learning rate to ``factor`` times its peak."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group["peak"]


def rate_factor(step: int, num_steps: int, training: Training) -> float:
    """Warmup, plateau, linear decay to 0: the rate at ``step`` (from 0) as a share of the peak.

    Also called trapezoidal or WSD (arXiv:2404.06395); unlike a cosine, its plateau does not
    depend on the number of steps.
    """
    warmup = max(1, round(training.warmup_frac * num_steps))
    decay = max(1, round(training.decay_frac * num_steps))
    return min(1.0, (step + 1) / warmup, (num_steps - step) / decay)
