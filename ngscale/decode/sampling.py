"""How the next token is chosen, and how drafted ones are held to that choice.

Letters: B sequences, k drafted tokens, T = k + 1 places that are verified, V0 tokens.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    """The fewest most likely tokens that hold this share are left in."""

    @property
    def is_greedy(self) -> bool:
        """Whether no random number is drawn."""
        return self.temperature == 0

    def probabilities(self, logits: Float[Tensor, "*B V0"]) -> Float64[Tensor, "*B V0"]:
        """What is sampled from."""
        found = (logits.double() / self.temperature).softmax(-1)
        if self.top_p < 1:
            ordered, places = found.sort(-1, descending=True)
            before = ordered.cumsum(-1) - ordered
            out = torch.zeros_like(found).scatter_(-1, places, ordered * (before < self.top_p))
            found = out / out.sum(-1, keepdim=True)
        return found


class Draft(NamedTuple):
    """Tokens guessed for the places behind the last known one."""

    tokens: Int64[Tensor, "B k"]
    counts: Int64[Tensor, " B"]
    """How many of them are to be verified, from the first on."""
    probabilities: Float64[Tensor, "B k V0"] | None
    """What each was drawn from; None: it was certain."""


class Verdict(NamedTuple):
    """What the model makes of a draft."""

    accepted: Int64[Tensor, " B"]
    """Drafted tokens that stand."""
    next_token: Int64[Tensor, " B"]
    """The model's own, behind them."""


def draw(weights: Float64[Tensor, "*B V0"], uniform: Float64[Tensor, "*B"]) -> Int64[Tensor, "*B"]:
    """The token where the cumulated weights pass ``uniform`` times their sum."""
    cumulated = weights.cumsum(-1)
    below = cumulated <= uniform.unsqueeze(-1) * cumulated[..., -1:]
    last = weights.shape[-1] - 1 - (weights > 0).long().flip(-1).argmax(-1)
    return torch.minimum(below.sum(-1), last)


def verify_greedy(logits: Float[Tensor, "B T V0"], draft: Draft) -> Verdict:
    """Drafted tokens stand as long as each is the likeliest one."""
    likeliest = logits.argmax(-1)  # (B, T)
    same = draft.tokens == likeliest[:, : draft.tokens.shape[1]]
    accepted = _leading(same, draft.counts)
    return Verdict(accepted, likeliest.gather(1, accepted.unsqueeze(1)).squeeze(1))


def verify_sampling(
    probabilities: Float64[Tensor, "B T V0"],
    draft: Draft,
    uniforms: Float64[Tensor, "B T"],
) -> Verdict:
    """Speculative sampling (Leviathan et al. 2023, arXiv:2211.17192, algorithm 1).

    A token x drawn from q stands with probability min(1, p(x)/q(x)); instead of the first that
    falls, one is drawn from norm(max(0, p - q)); behind a draft that stands as a whole, or that was
    cut, from p. What comes out is distributed as p. ``uniforms`` decide about each drafted token,
    the last of them draws.
    """
    num_drafted = draft.tokens.shape[1]
    target = probabilities[:, :num_drafted]
    drafted = draft.probabilities
    if drafted is None:
        drafted = torch.zeros_like(target).scatter_(2, draft.tokens.unsqueeze(2), 1.0)
    of_target = target.gather(2, draft.tokens.unsqueeze(2)).squeeze(2)
    of_draft = drafted.gather(2, draft.tokens.unsqueeze(2)).squeeze(2)
    stands = uniforms[:, :num_drafted] * of_draft < of_target
    accepted = _leading(stands, draft.counts)
    # Behind the last drafted token nothing was drafted: q = 0 there, and where the draft was cut.
    drafted = torch.cat([drafted, torch.zeros_like(probabilities[:, :1])], dim=1)
    at = accepted[:, None, None].expand(-1, 1, probabilities.shape[2])
    p, q = probabilities.gather(1, at).squeeze(1), drafted.gather(1, at).squeeze(1)
    fell = (accepted < draft.counts).unsqueeze(1)
    rest = torch.where(fell, (p - q).clamp_min(0), p)
    rest = torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)  # p = q but for rounding
    return Verdict(accepted, draw(rest, uniforms[:, -1]))


def _leading(stands: Bool[Tensor, "B k"], counts: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    places = torch.arange(stands.shape[1], device=stands.device)
    return (stands & (places < counts.unsqueeze(1))).long().cumprod(1).sum(1)


class Dice:
    """A generator of its own for each sequence, so that no other one changes its numbers."""

    def __init__(self, seed: int, num_sequences: int, first: int = 0) -> None:
        """Of sequences ``first``, ``first + 1``, ... of a run with this seed."""
        self.generators = [
            torch.Generator().manual_seed(_mixed(seed, first + i)) for i in range(num_sequences)
        ]

    def roll(self, number: int, device: torch.device) -> Float64[Tensor, "B n"]:
        """The next ``number`` of each, in [0, 1)."""
        rows = [torch.rand(number, generator=g, dtype=torch.float64) for g in self.generators]
        return torch.stack(rows).to(device)


def _mixed(seed: int, sequence: int) -> int:
    """Torch's CPU generator looks at the low 32 bits of its seed alone."""
    return int(np.random.SeedSequence([seed, sequence]).generate_state(1)[0])
