"""The sequences of one generation: the tokens that are known, and the model's state."""

import torch
from jaxtyping import Int64
from torch import Tensor

from ngscale.decode.ngram_cache import NgramCache
from ngscale.model.decoder import Decoder


class Sequences:
    """B of them. The state holds all known tokens but the last, which no pass has read yet."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: Int64[Tensor, "B P"],
        *,
        capacity: int,
        cached: bool = True,
    ) -> None:
        self.decoder = decoder
        batch, length = prompts.shape
        self.known = prompts.new_zeros(batch, capacity)
        self.known[:, :length] = prompts
        self.num_known = prompts.new_full((batch,), length)
        self.most_known = length
        """Known to the host."""
        self.state = decoder.new_state(batch, capacity)
        self.cache = NgramCache(decoder, self.state, is_on=cached)

    @property
    def last(self) -> Int64[Tensor, " B"]:
        """The last known token."""
        return self.tail(1)[:, 0]

    def tail(self, number: int) -> Int64[Tensor, "B n"]:
        """The last known tokens."""
        places = self.num_known.unsqueeze(1) + torch.arange(-number, 0, device=self.known.device)
        return self.known.gather(1, places)

    def extend(self, tokens: Int64[Tensor, "B k"], counts: Int64[Tensor, " B"], most: int) -> None:
        """``counts`` of these tokens are now known; the host knows ``most`` of all counts."""
        places = self.num_known.unsqueeze(1) + torch.arange(tokens.shape[1], device=tokens.device)
        self.known.scatter_(1, places, tokens)
        self.num_known = self.num_known + counts
        self.most_known += most
