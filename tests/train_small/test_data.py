"""Batches are a function of (seed, step); held-out blocks are never trained on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import InputError
from ngscale.tokens import TokenStream
from ngscale.train_small.data import Blocks, cut_blocks, join_documents


def some_blocks(num_tokens: int = 20_000) -> Blocks:
    tokens = np.random.default_rng(0).integers(0, 60, num_tokens).astype(np.uint32)
    return cut_blocks(tokens, seq_len=15, held_out_frac=0.1, min_train=4)


def test_documents_are_closed_by_the_separator() -> None:
    stream = TokenStream(
        tokens=np.array([5, 6, 7, 8, 9], dtype=np.uint32),
        doc_starts=np.array([0, 2, 5]),
        vocab_size=10,
        num_bytes=5,
    )
    joined = join_documents(stream, 0)
    assert joined.tolist() == [5, 6, 0, 7, 8, 9, 0]
    assert joined.dtype == np.uint32


def test_blocks_partition_the_stream() -> None:
    tokens = np.arange(20_000, dtype=np.uint32)
    blocks = cut_blocks(tokens, seq_len=15, held_out_frac=0.1, min_train=4)
    together = np.concatenate([blocks.train.ravel(), blocks.held_out.ravel()])
    assert sorted(together.tolist()) == list(range(20_000 // 16 * 16))
    assert 0.05 < len(blocks.held_out) / 1250 < 0.15


def test_equal_blocks_fall_on_the_same_side() -> None:
    once = np.random.default_rng(1).integers(0, 60, 16_000).astype(np.uint32)
    blocks = cut_blocks(np.tile(once, 2), seq_len=15, held_out_frac=0.1, min_train=4)
    trained = {block.tobytes() for block in blocks.train}
    assert not trained & {block.tobytes() for block in blocks.held_out}


@given(st.integers(0, 5), st.integers(0, 1000))
def test_a_batch_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    first, second = some_blocks(), some_blocks()
    second.batch(seed=seed + 1, step=3, batch_size=4)  # leaves no trace
    a = first.batch(seed=seed, step=step, batch_size=4)
    b = second.batch(seed=seed, step=step, batch_size=4)
    assert a.shape == (4, 16)
    assert np.array_equal(a, b)


def test_an_epoch_visits_every_block_once_and_in_another_order_each_time() -> None:
    tokens = np.arange(16 * 130, dtype=np.uint32)
    blocks = cut_blocks(tokens, seq_len=15, held_out_frac=0.1, min_train=4)
    num_blocks = len(blocks.train)
    steps = [blocks.batch(seed=0, step=step, batch_size=1)[0, 0] for step in range(2 * num_blocks)]
    first, second = steps[:num_blocks], steps[num_blocks:]
    assert sorted(first) == sorted(second) == sorted(blocks.train[:, 0])
    assert first != second


def test_a_small_corpus_is_an_error_that_counts_blocks() -> None:
    with pytest.raises(InputError, match=r"0 training and \d held-out blocks of 16 tokens"):
        cut_blocks(np.zeros(15, dtype=np.uint32), seq_len=15, held_out_frac=0.1, min_train=4)
