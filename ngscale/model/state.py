"""What a decoder remembers of the sequences it goes on with: keys, values, n-grams, convolutions.

All is kept place by place in buffers made once for a capacity, so taking tokens back is a matter of
lengths: nothing is copied, and what lies behind a sequence's length is written over. Lengths may
differ from sequence to sequence.
"""

from collections.abc import Hashable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ngscale.hashing.torch_twin import StreamState

_KEYS_AT_A_TIME = 64
"""Keys are read in multiples of so many, so that shapes seldom change."""


class DecoderState:
    """Of B sequences with room for ``capacity`` tokens each; made by ``Decoder.new_state``.

    ``decoder.hidden(tokens, state)`` takes the next T tokens of every sequence and makes it longer
    by T. ``truncate`` takes the last ones back. No call waits for the device. Buffers are made at
    the first use of each module: keys and values [B, G, capacity, h] as attention reads them (of
    latent attention its expanded ones), N-1 ids of every place and table set, and what an Engram
    convolution reads.
    """

    def __init__(
        self,
        num_sequences: int,
        capacity: int,
        *,
        cos: Float[Tensor, "C h2"],
        sin: Float[Tensor, "C h2"],
    ) -> None:
        self.num_sequences, self.capacity = num_sequences, capacity
        self.cos, self.sin = cos, sin
        """Of every place there is room for."""
        self.lengths: Int64[Tensor, " B"] = torch.zeros(
            num_sequences, dtype=torch.int64, device=cos.device
        )
        """Tokens of each sequence, on the device."""
        self.longest = 0
        """No sequence is longer; known to the host."""
        self._keys: dict[Hashable, tuple[Tensor, Tensor]] = {}
        self._behind: dict[Hashable, Tensor] = {}
        self._channels: dict[Hashable, Tensor] = {}
        self._mask: Tensor | None = None

    def truncate(self, lengths: Int64[Tensor, " B"], longest: int | None = None) -> None:
        """Keep the first ``lengths`` tokens, at least 1 and no more than there are.

        ``longest`` bounds them where the host knows.
        """
        self.lengths = lengths
        self.longest = self.longest if longest is None else min(longest, self.longest)

    def places(self, num_tokens: int, ahead: int = 0) -> Int64[Tensor, "B T"]:
        """Of tokens that begin ``ahead`` behind the end."""
        steps = torch.arange(ahead, ahead + num_tokens, device=self.lengths.device)
        return self.lengths.unsqueeze(1) + steps

    def begin(self, num_tokens: int) -> tuple[Float[Tensor, "B 1 T h2"], Float[Tensor, "B 1 T h2"]]:
        """Cosines and sines of the next tokens; what each may see is settled for all layers.

        Raises:
            ValueError: there is no room for them.
        """
        if self.longest + num_tokens > self.capacity:
            raise ValueError(
                f"{self.longest} + {num_tokens} tokens: the state has room for {self.capacity}"
            )
        places = self.places(num_tokens)
        keys = torch.arange(self._num_keys(num_tokens), device=places.device)
        self._mask = (keys <= places.unsqueeze(-1)).unsqueeze(1)  # (B, 1, T, S)
        return self.cos[places].unsqueeze(1), self.sin[places].unsqueeze(1)

    def end(self, num_tokens: int) -> None:
        """The next tokens are now the last ones."""
        self.lengths = self.lengths + num_tokens
        self.longest += num_tokens

    def _num_keys(self, num_tokens: int) -> int:
        read = self.longest + num_tokens
        return min(self.capacity, read + -read % _KEYS_AT_A_TIME)

    def extend(
        self, module: Hashable, key: Float[Tensor, "B G T h"], value: Float[Tensor, "B G T v"]
    ) -> tuple[Tensor, Tensor, Bool[Tensor, "B 1 T S"]]:
        """All keys and values of an attention, these ones too, and which of them is seen."""
        if module not in self._keys:
            self._keys[module] = (self._room(key), self._room(value))
        assert self._mask is not None
        num_tokens, found = key.shape[2], []
        places = self.places(num_tokens)[:, None, :, None]
        for buffer, new in zip(self._keys[module], (key, value), strict=True):
            buffer.scatter_(2, places.expand_as(new), new)
            found.append(buffer[:, :, : self._num_keys(num_tokens)])
        return found[0], found[1], self._mask

    def _room(self, of: Float[Tensor, "B G T h"]) -> Float[Tensor, "B G C h"]:
        batch, heads, _, width = of.shape
        return of.new_zeros(batch, heads, self.capacity, width)

    def past(self, module: Hashable, ahead: int = 0) -> StreamState | None:
        """What n-grams see of the tokens before place ``ahead``; None where a sequence starts."""
        if self.longest == 0 and ahead == 0:
            return None
        behind = self._behind[module]
        places = self.places(1, ahead).unsqueeze(-1).expand(-1, -1, behind.shape[-1])
        return StreamState(behind.gather(1, places).squeeze(1), None)

    def remember(self, module: Hashable, seen: Int64[Tensor, "B T P"], ahead: int = 0) -> None:
        """What n-grams see behind each of the tokens from place ``ahead`` on."""
        batch, num_tokens, width = seen.shape
        if module not in self._behind:
            self._behind[module] = seen.new_zeros(batch, self.capacity + 1, width)
        places = self.places(num_tokens, ahead + 1).unsqueeze(-1)
        self._behind[module].scatter_(1, places.expand_as(seen), seen)

    def window(
        self, module: Hashable, channels: Float[Tensor, "B D T"], reach: int
    ) -> Float[Tensor, "B D reach_plus_T"]:
        """What a convolution reads: these channels behind the last ``reach``, 0 before a start."""
        batch, width, num_tokens = channels.shape
        if module not in self._channels:
            self._channels[module] = channels.new_zeros(batch, width, reach + self.capacity)
        buffer = self._channels[module]
        places = self.places(num_tokens, reach).unsqueeze(1)
        buffer.scatter_(2, places.expand_as(channels), channels)
        read = self.places(reach + num_tokens).unsqueeze(1).expand(-1, width, -1)
        return buffer.gather(2, read)

    @property
    def num_bytes(self) -> int:
        """Of all buffers so far."""
        keys = [one for pair in self._keys.values() for one in pair]
        buffers = [*keys, *self._behind.values(), *self._channels.values()]
        return sum(one.numel() * one.element_size() for one in buffers)
