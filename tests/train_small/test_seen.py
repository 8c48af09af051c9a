"""The split by how often an n-gram was trained on, against a plain count of every position."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale.tokens import TokenStream
from ngscale.train_small.data import cut_blocks
from ngscale.train_small.seen import NO_NGRAM, held_out_counts, split_by_seen

SEPARATOR = 0


def grams_of(block: list[int], order: int) -> list[tuple[int, ...] | None]:
    """The n-gram that ends at each place of a block, inside its document; else None."""
    grams: list[tuple[int, ...] | None] = []
    since = 0
    for place, token in enumerate(block):
        since += 1
        grams.append(tuple(block[place - order + 1 : place + 1]) if since >= order else None)
        if token == SEPARATOR:
            since = 0
    return grams


@settings(max_examples=10)
@given(st.integers(0, 3), st.integers(2, 200))
def test_counts_are_those_of_every_trained_position(seed: int, num_blocks: int) -> None:
    """Up to 200 blocks of about 60: part of an epoch and several."""
    rng = np.random.default_rng(seed)
    stream = TokenStream(
        tokens=rng.integers(1, 7, 800).astype(np.uint32),
        doc_starts=np.array([0, 100, 107, 400, 800]),
        vocab_size=300_000,
        num_bytes=0,
    )
    blocks = cut_blocks(
        stream, separator=SEPARATOR, seq_len=12, held_out_frac=0.2, section_tokens=30, min_train=1
    )
    num_held_out = min(3, len(blocks.held_out))
    found = held_out_counts(
        blocks, seed=seed, num_blocks=num_blocks, orders=(1, 2, 3), num_held_out=num_held_out
    )
    trained = [
        blocks.batch(seed=seed, step=step, batch_size=1)[0, :-1].tolist()
        for step in range(num_blocks)
    ]
    for order, counts in found.items():
        seen = Counter(gram for block in trained for gram in grams_of(block, order) if gram)
        for row, block in zip(counts, blocks.held_out.take(range(num_held_out)), strict=True):
            grams = grams_of(block[:-1].tolist(), order)
            assert row.tolist() == [NO_NGRAM if g is None else seen[g] for g in grams]


def test_losses_are_averaged_in_their_buckets() -> None:
    losses = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    counts = {2: np.array([[NO_NGRAM, 0, 1], [9, 10, 100]])}
    found = [
        (part.seen, part.num_positions, part.loss_nats) for part in split_by_seen(losses, counts)
    ]
    assert found == [("0", 1, 2.0), ("1-9", 2, 3.5), ("10-99", 1, 5.0), ("100+", 1, 9.0)]
    (empty, *_) = split_by_seen(losses[:, :1], {3: np.array([[5], [5]])})
    assert (empty.order, empty.num_positions, empty.loss_nats) == (3, 0, None)
    weighted = sum(
        part.num_positions * (part.loss_nats or 0) for part in split_by_seen(losses, counts)
    )
    assert weighted == pytest.approx(23.0)
