"""Early rejection: a score of each drafted token that drops it, and all behind it, unverified.

The second question of arXiv:2601.21204, sec. 5. ``SCORES`` of n-gram rows: ``head``, the log of the
table head's probability of the token; ``margin``, between its two likeliest ones; ``rows``, the
norm of the rows that the token itself would look up; ``trained``, the share of them that is not
zero, as rows start. To compare: ``entropy``, minus the drafter's own, and ``random``.

Sampling stays lossless because a token that may be dropped is drawn from the draft's distribution
without the tokens that would be (``restrict``): given that one is kept, it was drawn from that.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ngscale.decode.sequences import Sequences
from ngscale.model.embedding import NgramEmbedding

SCORES = ("head", "margin", "rows", "trained", "entropy", "random")
OF_CONTEXT = ("margin", "entropy", "random")
"""Those that do not look at the token."""
ANY_SAMPLING = ("head", *OF_CONTEXT)
"""All but those whose value at every token would need the rows of every one."""


class Rejector(Protocol):
    """Decides about one drafted token of every sequence."""

    def keep(
        self,
        sequences: Sequences,
        logits: Float[Tensor, "B V0"],
        token: Int64[Tensor, " B"],
        *,
        ahead: int,
    ) -> Bool[Tensor, " B"]:
        """Whether ``token``, drafted by ``logits`` for place ``ahead``, is to be verified."""

    def restrict(
        self, drawn_from: Float64[Tensor, "B V0"], logits: Float[Tensor, "B V0"]
    ) -> Float64[Tensor, "B V0"]:
        """What a token that is kept was drawn from."""


class Threshold:
    """Keeps tokens whose score is no less than ``threshold``."""

    def __init__(self, score: str, threshold: float, *, seed: int = 0) -> None:
        self.score, self.threshold = score, threshold
        self.generator = torch.Generator().manual_seed(seed)

    def keep(
        self,
        sequences: Sequences,
        logits: Float[Tensor, "B V0"],
        token: Int64[Tensor, " B"],
        *,
        ahead: int,
    ) -> Bool[Tensor, " B"]:
        """See ``Rejector``."""
        found = score(self.score, sequences, logits, token, ahead, self.generator)
        return found >= self.threshold

    def restrict(
        self, drawn_from: Float64[Tensor, "B V0"], logits: Float[Tensor, "B V0"]
    ) -> Float64[Tensor, "B V0"]:
        """See ``Rejector``."""
        assert self.score in ANY_SAMPLING
        if self.score in OF_CONTEXT:
            return drawn_from
        kept = drawn_from * (logits.log_softmax(-1) >= self.threshold)
        total = kept.sum(-1, keepdim=True)
        return torch.where(total > 0, kept / total.clamp_min(1e-300), drawn_from)


class Recorder:
    """Keeps all tokens, and their scores."""

    def __init__(self, *, seed: int = 0) -> None:
        self.scores: list[Mapping[str, Tensor]] = []
        """Of every drafted token, in the order of drafting."""
        self.generator = torch.Generator().manual_seed(seed)

    def keep(
        self,
        sequences: Sequences,
        logits: Float[Tensor, "B V0"],
        token: Int64[Tensor, " B"],
        *,
        ahead: int,
    ) -> Bool[Tensor, " B"]:
        """All."""
        self.scores.append(
            {
                name: score(name, sequences, logits, token, ahead, self.generator).cpu()
                for name in SCORES
            }
        )
        return torch.ones_like(token, dtype=torch.bool)

    def restrict(
        self, drawn_from: Float64[Tensor, "B V0"], logits: Float[Tensor, "B V0"]
    ) -> Float64[Tensor, "B V0"]:
        """Nothing is dropped."""
        return drawn_from


def score(
    name: str,
    sequences: Sequences,
    logits: Float[Tensor, "B V0"],
    token: Int64[Tensor, " B"],
    ahead: int,
    generator: torch.Generator,
) -> Float[Tensor, " B"]:
    """The higher, the likelier the token stands."""
    if name == "random":
        return torch.rand(len(token), generator=generator).to(token.device)
    if name == "head":
        return logits.log_softmax(-1).gather(1, token.unsqueeze(1)).squeeze(1)
    if name == "margin":
        first, second = logits.topk(2, dim=-1).values.unbind(-1)
        return first - second
    if name == "entropy":
        logs = logits.log_softmax(-1)
        return (logs.exp() * logs).sum(-1)
    embedding = sequences.decoder.embed_tokens
    assert isinstance(embedding, NgramEmbedding)
    past = sequences.state.past(embedding, ahead)
    rows = embedding.read(token.unsqueeze(1), state=past)[:, 0]  # (B, E*d)
    if name == "rows":
        return rows.square().sum(-1).sqrt()
    of_table = rows.view(len(token), embedding.spec.num_tables, -1)
    return (of_table != 0).any(-1).float().mean(-1)
