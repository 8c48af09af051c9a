"""The N-gram Cache: what the start of the stream is of drafted tokens, kept for their verification.

A drafter that reads n-gram rows embeds each token it guesses; verification reads the same rows of
the same tokens. Kept on the device between the two they are read once (arXiv:2601.21204, sec. 5).
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ngscale.model.decoder import Decoder
from ngscale.model.state import DecoderState


class NgramCache:
    """Embeds tokens ahead of a state's end; ``is_on`` False embeds them again, to compare.

    A rejected draft costs nothing to take back: the next draft begins at the state's end and
    writes over what lies behind it.
    """

    def __init__(self, decoder: Decoder, state: DecoderState, *, is_on: bool = True) -> None:
        self.decoder, self.state, self.is_on = decoder, state, is_on
        self._kept: list[Tensor] = []
        self.num_embedded = 0
        """Tokens whose rows were read."""
        self.num_reused = 0
        """Tokens that verification found embedded."""

    def embed(self, tokens: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Of the next place: the first is that of the last known token, the others of guesses."""
        ahead = len(self._kept)
        embedded = self._read(tokens.unsqueeze(1), ahead)
        self._kept.append(embedded)
        return embedded[:, 0]

    def verified(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Of the tokens that are now verified; the cache is empty behind it."""
        length = tokens.shape[1]
        kept = self._kept[:length] if self.is_on else []
        self._kept = []
        self.num_reused += len(kept) * len(tokens)
        if len(kept) < length:
            kept = [*kept, self._read(tokens[:, len(kept) :], len(kept))]
        return torch.cat(kept, dim=1)

    def _read(self, tokens: Int64[Tensor, "B T"], ahead: int) -> Float[Tensor, "B T D"]:
        self.num_embedded += tokens.numel()
        return self.decoder.embed(tokens, self.state, ahead=ahead)
