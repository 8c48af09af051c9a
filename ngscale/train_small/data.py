"""Batches of a token stream: a pure function of (seed, step, rank), held out by document.

The stream stays where it is, memory-mapped: a block is put together when it is asked for.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from ngscale.errors import InputError
from ngscale.tokens import TokenStream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedBlocks:
    """Sections of documents, each closed by ``separator``, joined and cut into equal blocks.

    What is left over at the end, shorter than a block, is not used.
    """

    stream: TokenStream
    separator: int
    width: int
    """Tokens of a block: one more than it predicts."""
    starts: Int64[np.ndarray, " S"]
    """First token of each section in the stream."""
    joined_starts: Int64[np.ndarray, " S_plus_1"]
    """The same where sections are joined, separators counted; the whole length at the end."""

    def __len__(self) -> int:
        """Blocks."""
        return int(self.joined_starts[-1]) // self.width

    def take(self, indices: Iterable[int]) -> Int64[np.ndarray, "n width"]:
        """The blocks of these indices."""
        chosen = list(indices)
        out = np.full((len(chosen), self.width), self.separator, np.int64)
        for row, index in zip(out, chosen, strict=True):
            self._fill(row, int(index) * self.width)
        return out

    def _fill(self, row: Int64[np.ndarray, " width"], begin: int) -> None:
        """Write over a block of separators what sections hold from ``begin`` on."""
        section = int(np.searchsorted(self.joined_starts, begin, side="right")) - 1
        filled = 0
        while filled < self.width:
            skipped = begin + filled - int(self.joined_starts[section])
            length = int(self.joined_starts[section + 1] - self.joined_starts[section]) - 1
            count = min(length - skipped, self.width - filled)
            first = int(self.starts[section]) + skipped
            row[filled : filled + count] = self.stream.tokens[first : first + count]
            filled += count + 1  # and its separator
            section += 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Disjoint blocks: no token of a held-out section is trained on."""

    train: PackedBlocks
    held_out: PackedBlocks

    @property
    def num_train_tokens(self) -> int:
        """Tokens predicted in one pass over the training blocks."""
        return len(self.train) * (self.train.width - 1)

    def batch(
        self, *, seed: int, step: int, batch_size: int, rank: int = 0, num_ranks: int = 1
    ) -> Int64[np.ndarray, "b width"]:
        """What ``rank`` takes of a step's ``batch_size`` blocks; they are the same in any split.

        Each epoch goes through all blocks in an order of its own.
        """
        share = batch_size // num_ranks
        first = step * batch_size + rank * share
        epochs, places = np.divmod(np.arange(first, first + share), len(self.train))
        return self.train.take(
            _epoch_order(seed, int(epoch), len(self.train))[place]
            for epoch, place in zip(epochs, places, strict=True)
        )

    def trained(self, *, seed: int, num_blocks: int) -> tuple[int, Int64[np.ndarray, " n"]]:
        """Whole epochs among the first ``num_blocks``, and the blocks of the one begun after."""
        epochs, rest = divmod(num_blocks, len(self.train))
        return epochs, _epoch_order(seed, epochs, len(self.train))[:rest]


@lru_cache(maxsize=2)  # one epoch and the next: batches at the seam need both
def _epoch_order(seed: int, epoch: int, num_blocks: int) -> Int64[np.ndarray, " num_blocks"]:
    return np.random.default_rng([seed, epoch]).permutation(num_blocks)


def cut_blocks(
    stream: TokenStream,
    *,
    separator: int,
    seq_len: int,
    held_out_frac: float,
    section_tokens: int,
    min_train: int,
) -> Blocks:
    """Cut into blocks; the hash of a section's own tokens decides whether it is held out.

    A section is a document, or ``section_tokens`` of a longer one. Equal sections fall on the same
    side, wherever they are and whatever else the corpus holds.

    Raises:
        InputError: fewer than ``min_train`` training blocks, or none held out.
    """
    starts, ends = _sections(stream, section_tokens)
    held_out = np.array(
        [
            _hash_frac(stream.tokens[start:end]) < held_out_frac
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ],
        dtype=bool,
    )
    width = seq_len + 1

    def pack(chosen: np.ndarray) -> PackedBlocks:
        lengths = (ends - starts)[chosen] + 1
        return PackedBlocks(
            stream=stream,
            separator=separator,
            width=width,
            starts=starts[chosen],
            joined_starts=np.concatenate([[0], np.cumsum(lengths)]),
        )

    blocks = Blocks(train=pack(~held_out), held_out=pack(held_out))
    if len(blocks.train) < min_train or len(blocks.held_out) == 0:
        raise InputError(
            f"the corpus has {len(blocks.train)} training and {len(blocks.held_out)} held-out "
            f"blocks of {width} tokens; at least {min_train} and 1 are needed: use a larger one"
        )
    return blocks


def _sections(
    stream: TokenStream, section_tokens: int
) -> tuple[Int64[np.ndarray, " S"], Int64[np.ndarray, " S"]]:
    doc_starts = stream.doc_starts
    lengths = np.diff(doc_starts)
    counts = -(-lengths // section_tokens)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(doc_starts[:-1], counts) + within * section_tokens
    ends = np.minimum(starts + section_tokens, np.repeat(doc_starts[1:], counts))
    return starts, ends


def _hash_frac(tokens: np.ndarray) -> float:
    digest = hashlib.blake2b(tokens.astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
