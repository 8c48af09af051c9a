"""What guesses tokens ahead: nothing, the prompt, n-gram rows, a small model."""

from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from ngscale.decode.rejection import Rejector
from ngscale.decode.sampling import Draft, Sampling, draw
from ngscale.decode.sequences import Sequences
from ngscale.decode.table_head import TableHead
from ngscale.model.decoder import Decoder

_LONGEST_SUFFIX = 3
"""Tokens that prompt lookup looks for, then fewer."""


class Drafter(Protocol):
    """Guesses are verified, so a drafter changes how fast tokens come and not which."""

    name: str

    def start(self, sequences: Sequences) -> None:
        """Before the first draft, behind the prompts."""

    def draft(
        self,
        sequences: Sequences,
        length: int,
        sampling: Sampling,
        uniforms: Float64[Tensor, "B k"] | None,
    ) -> Draft:
        """``length`` tokens for each sequence; ``uniforms`` where ``sampling`` is not greedy."""


class Lookup:
    """Prompt lookup: what followed the last earlier place where the last tokens stood.

    Of the longest suffix of 3, 2 or 1 tokens that is found. Where fewer tokens follow than are
    asked for, they are taken again from the first.
    """

    name = "lookup"

    def start(self, sequences: Sequences) -> None:
        """Nothing to prepare."""

    def draft(
        self,
        sequences: Sequences,
        length: int,
        sampling: Sampling,
        uniforms: Float64[Tensor, "B k"] | None,
    ) -> Draft:
        """By comparing the suffix with every place, on the device."""
        known, num_known = sequences.known, sequences.num_known.unsqueeze(1)
        places = torch.arange(known.shape[1], device=known.device)
        same = torch.ones_like(known, dtype=torch.bool)
        behind = torch.zeros_like(num_known)  # place behind the match; 0: none
        for n in range(1, _LONGEST_SUFFIX + 1):
            # Whether the n tokens that end before place j are the last n.
            at = num_known - n
            token = known.gather(1, at.clamp_min(0))
            shifted = known.roll(n, dims=1) == token
            same = same & shifted & (places >= n) & (at >= 0)
            found = torch.where(same & (places < num_known), places, 0).amax(1, keepdim=True)
            behind = torch.where(found > 0, found, behind)
        period = (num_known - behind).clamp_min(1)
        steps = torch.arange(length, device=known.device) % period
        tokens = known.gather(1, (behind + steps).clamp_max(known.shape[1] - 1))
        counts = torch.where(behind > 0, length, 0).squeeze(1)
        return Draft(tokens, counts, None)


class TableDraft:
    """A linear head reads the start of the stream, n-gram rows and all, at each guess in turn."""

    name = "table"

    def __init__(self, head: TableHead, rejector: Rejector | None = None) -> None:
        self.head, self.rejector = head, rejector

    def start(self, sequences: Sequences) -> None:
        """Nothing to prepare."""

    def draft(
        self,
        sequences: Sequences,
        length: int,
        sampling: Sampling,
        uniforms: Float64[Tensor, "B k"] | None,
    ) -> Draft:
        """Each guess goes back through the hash."""
        token, tokens, drawn_from, keeps = sequences.last, [], [], []
        for i in range(length):
            logits = self.head(sequences.cache.embed(token))
            if sampling.is_greedy:
                token = logits.argmax(-1)
            else:
                assert uniforms is not None
                q = sampling.probabilities(logits)
                token = draw(q, uniforms[:, i])
                drawn_from.append(q)
            tokens.append(token)
            if self.rejector is not None:
                kept = self.rejector.keep(sequences, logits, token, ahead=i + 1)
                keeps.append(kept)
                if drawn_from:
                    drawn_from[-1] = self.rejector.restrict(drawn_from[-1], logits)
        counts = sequences.num_known.new_full(sequences.num_known.shape, length)
        if keeps:
            counts = torch.stack(keeps, dim=1).long().cumprod(1).sum(1)
        drafted = torch.stack(drawn_from, dim=1) if drawn_from else None
        return Draft(torch.stack(tokens, dim=1), counts, drafted)


class ModelDraft:
    """A smaller decoder of the same vocabulary, with a state of its own."""

    name = "model"

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def start(self, sequences: Sequences) -> None:
        """Read the prompts."""
        length, capacity = sequences.most_known, sequences.known.shape[1]
        self.state = self.decoder.new_state(len(sequences.known), capacity)
        self.decoder.hidden(sequences.known[:, :length], self.state)

    def draft(
        self,
        sequences: Sequences,
        length: int,
        sampling: Sampling,
        uniforms: Float64[Tensor, "B k"] | None,
    ) -> Draft:
        """The last two known tokens are read again: the last guess of a draft was never read."""
        self.state.truncate(sequences.num_known - 2, sequences.most_known - 2)
        fed, tokens, drawn_from = sequences.tail(2), [], []
        for i in range(length):
            logits = self.decoder.lm_head(self.decoder.hidden(fed, self.state)[:, -1])
            if sampling.is_greedy:
                token = logits.argmax(-1)
            else:
                assert uniforms is not None
                q = sampling.probabilities(logits)
                token = draw(q, uniforms[:, i])
                drawn_from.append(q)
            tokens.append(token)
            fed = token.unsqueeze(1)
        counts = sequences.num_known.new_full(sequences.num_known.shape, length)
        drafted = torch.stack(drawn_from, dim=1) if drawn_from else None
        return Draft(torch.stack(tokens, dim=1), counts, drafted)
