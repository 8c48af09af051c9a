"""How often each held-out position's n-gram was trained on: where tables must earn their keep."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int64, UInt32

from ngscale.ngrams import NgramTable, count_ngrams
from ngscale.tokens import TokenStream
from ngscale.train_small.data import Blocks

BUCKETS = (("0", 0, 1), ("1-9", 1, 10), ("10-99", 10, 100), ("100+", 100, None))
"""Name, least count, and the count it stays below."""
NO_NGRAM = -1
"""Of a position with fewer tokens before it in its document and block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLoss:
    """Held-out loss over the positions whose n-gram was trained on so often."""

    order: int
    seen: str
    """A name of ``BUCKETS``."""
    num_positions: int
    loss_nats: float | None
    """Mean, nats/token; None without any position."""


def split_by_seen(
    losses: Float[np.ndarray, "n T"], counts: Mapping[int, Int64[np.ndarray, "n T"]]
) -> tuple[SeenLoss, ...]:
    """The mean of ``losses`` in every bucket of every order."""
    parts = []
    for order, seen in counts.items():
        for name, low, high in BUCKETS:
            chosen = losses[(seen >= low) & (seen < high if high is not None else True)]
            parts.append(
                SeenLoss(
                    order=order,
                    seen=name,
                    num_positions=len(chosen),
                    loss_nats=float(chosen.mean()) if len(chosen) else None,
                )
            )
    return tuple(parts)


@lru_cache(maxsize=1)  # the arms of a seed share it
def held_out_counts(
    blocks: Blocks, *, seed: int, num_blocks: int, orders: tuple[int, ...], num_held_out: int
) -> dict[int, Int64[np.ndarray, "n T"]]:
    """Per order, how often the n-gram that ends at each held-out input was among those trained on.

    Exact, over the inputs of the first ``num_blocks`` training blocks of ``seed``, those of
    several epochs as often as they came. An n-gram lies within a block and a document, as in the
    model; where there is none, ``NO_NGRAM``.
    """
    held_out = blocks.held_out.take(range(num_held_out))[:, :-1]
    separator = blocks.held_out.separator
    epochs, rest = blocks.trained(seed=seed, num_blocks=num_blocks)
    counts = {order: np.zeros(held_out.shape, np.int64) for order in orders}
    for times, chosen in ((epochs, range(len(blocks.train))), (1, rest)):
        if not times or not len(chosen):
            continue
        stream = _inputs(blocks, chosen)
        for order, table in count_ngrams(stream, orders=orders).items():
            counts[order] += times * _look_up(table, held_out)
    reach = _reach(held_out, separator)
    return {order: np.where(reach >= order, n, NO_NGRAM) for order, n in counts.items()}


def _inputs(blocks: Blocks, chosen: "range | Int64[np.ndarray, ' n']") -> TokenStream:
    """Inputs of the chosen training blocks; documents end with a block and behind a separator."""
    tokens = blocks.train.take(chosen)[:, :-1].astype(np.uint32)  # (n, T)
    last = tokens == blocks.train.separator
    last[:, -1] = True
    return TokenStream(
        tokens=tokens.ravel(),
        doc_starts=np.concatenate([[0], np.flatnonzero(last) + 1]),
        vocab_size=blocks.train.stream.vocab_size,
        num_bytes=0,
    )


def _reach(tokens: Int64[np.ndarray, "n T"], separator: int) -> Int64[np.ndarray, "n T"]:
    """Tokens up to each position in its own block and document, itself counted."""
    places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    begins = np.zeros_like(tokens)
    begins[:, 1:] = np.where(tokens[:, :-1] == separator, places[:, 1:], 0)
    return places - np.maximum.accumulate(begins, axis=1) + 1


def _look_up(table: NgramTable, tokens: Int64[np.ndarray, "n T"]) -> Int64[np.ndarray, "n T"]:
    """Counts of the n-gram that ends at each position; 0 at the first ``order - 1`` of a row."""
    order = table.order
    keys = _as_bytes(table.tokens[::-1].T)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, order, axis=1)
    wanted = _as_bytes(windows.reshape(-1, order))
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = np.where(keys[places] == wanted, table.counts[places], 0)
    out = np.zeros(tokens.shape, np.int64)
    out[:, order - 1 :] = found.reshape(len(tokens), -1)
    return out


def _as_bytes(grams: "UInt32[np.ndarray, 'G n'] | Int64[np.ndarray, 'G n']") -> np.ndarray:
    """Oldest token first, each big-endian: bytes sort as the n-grams do."""
    wide = np.ascontiguousarray(grams, dtype=">u4")
    return wide.view(f"S{4 * wide.shape[1]}").ravel()
