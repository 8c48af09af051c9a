"""Blocks of a token stream: held out by hash, batched as a pure function of (seed, step)."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.errors import InputError
from ngscale.tokens import TokenStream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Disjoint blocks of seq_len + 1 tokens: no token of a held-out block is trained on."""

    train: UInt32[np.ndarray, "num_train width"]
    held_out: UInt32[np.ndarray, "num_held_out width"]

    @property
    def num_train_tokens(self) -> int:
        """Tokens predicted in one pass over the training blocks."""
        return len(self.train) * int(self.train.shape[1] - 1)

    def batch(self, *, seed: int, step: int, batch_size: int) -> Int64[np.ndarray, "B width"]:
        """The blocks of one step: each epoch goes through all blocks in an order of its own."""
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        epochs, places = np.divmod(positions, len(self.train))
        chosen = [
            _epoch_order(seed, int(epoch), len(self.train))[place]
            for epoch, place in zip(epochs, places, strict=True)
        ]
        return self.train[chosen].astype(np.int64)


@lru_cache(maxsize=2)  # one epoch and the next: batches at the seam need both
def _epoch_order(seed: int, epoch: int, num_blocks: int) -> Int64[np.ndarray, " num_blocks"]:
    return np.random.default_rng([seed, epoch]).permutation(num_blocks)


def join_documents(stream: TokenStream, separator: int) -> UInt32[np.ndarray, " T"]:
    """All documents in order, each closed by ``separator``."""
    ends = stream.doc_starts[1:]
    return np.insert(stream.tokens, ends, np.uint32(separator))


def cut_blocks(
    tokens: UInt32[np.ndarray, " T"], *, seq_len: int, held_out_frac: float, min_train: int
) -> Blocks:
    """Cut into blocks; the hash of a block's own tokens decides whether it is held out.

    Equal blocks fall on the same side, wherever they are and whatever else the corpus holds.

    Raises:
        InputError: fewer than ``min_train`` training blocks, or none held out.
    """
    width = seq_len + 1
    num_blocks = len(tokens) // width
    blocks = tokens[: num_blocks * width].reshape(num_blocks, width)  # (num_blocks, width)
    held_out = np.array([_hash_frac(block) < held_out_frac for block in blocks], dtype=bool)
    num_held_out = int(held_out.sum())
    if num_blocks - num_held_out < min_train or num_held_out == 0:
        raise InputError(
            f"the corpus has {num_blocks - num_held_out} training and {num_held_out} held-out "
            f"blocks of {width} tokens; at least {min_train} and 1 are needed: use a larger one"
        )
    return Blocks(train=blocks[~held_out], held_out=blocks[held_out])


def _hash_frac(block: UInt32[np.ndarray, " width"]) -> float:
    digest = hashlib.blake2b(block.astype("<u4").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
