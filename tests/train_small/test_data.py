"""Batches are a function of (seed, step, rank); held-out sections are never trained on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import InputError
from ngscale.tokens import TokenStream
from ngscale.train_small.data import Blocks, cut_blocks

SEPARATOR = 0


def corpus(lengths: list[int], tokens: np.ndarray | None = None) -> TokenStream:
    if tokens is None:
        tokens = np.random.default_rng(0).integers(1, 60, sum(lengths))
    return TokenStream(
        tokens=tokens.astype(np.uint32),
        doc_starts=np.concatenate([[0], np.cumsum(lengths)]),
        vocab_size=int(tokens.max()) + 1,
        num_bytes=0,
    )


def cut(stream: TokenStream, *, section_tokens: int = 64, held_out_frac: float = 0.1) -> Blocks:
    return cut_blocks(
        stream,
        separator=SEPARATOR,
        seq_len=15,
        held_out_frac=held_out_frac,
        section_tokens=section_tokens,
        min_train=4,
    )


def some_blocks() -> Blocks:
    return cut(corpus([20_000]))


def joined(blocks: Blocks, kind: str) -> list[int]:
    packed = getattr(blocks, kind)
    return list(packed.take(range(len(packed))).ravel())


@given(st.lists(st.integers(1, 200), min_size=40, max_size=80), st.sampled_from([7, 64, 1000]))
def test_blocks_are_the_joined_sections_of_one_side(lengths: list[int], section: int) -> None:
    """Against a plain loop over documents; every token is on one side, in order, or left over."""
    stream = corpus(lengths, np.arange(1, sum(lengths) + 1))
    try:
        blocks = cut(stream, section_tokens=section, held_out_frac=0.3)
    except InputError:
        return
    held_out = set(blocks.held_out.starts + 1)
    expected: dict[str, list[int]] = {"train": [], "held_out": []}
    for start, length in zip(stream.doc_starts[:-1].tolist(), lengths, strict=True):
        for first in range(start, start + length, section):
            part = list(range(first + 1, min(first + section, start + length) + 1))
            side = "held_out" if part[0] in held_out else "train"
            expected[side] += [*part, SEPARATOR]
    for side, tokens in expected.items():
        found = joined(blocks, side)
        assert found == tokens[: len(found)]
        assert len(tokens) - len(found) < 16


def test_about_the_share_asked_for_is_held_out() -> None:
    blocks = some_blocks()
    share = len(blocks.held_out) / (len(blocks.held_out) + len(blocks.train))
    assert 0.05 < share < 0.15


def test_equal_documents_fall_on_the_same_side() -> None:
    once = np.random.default_rng(1).integers(1, 60, 16_000)
    blocks = cut(corpus([100] * 320, np.tile(once, 2)), section_tokens=1000)
    windows = np.lib.stride_tricks.sliding_window_view
    trained = {part.tobytes() for part in windows(np.array(joined(blocks, "train")), 12)}
    held_out = {part.tobytes() for part in windows(np.array(joined(blocks, "held_out")), 12)}
    assert len(held_out) > 500
    assert not trained & held_out


@given(st.integers(0, 5), st.integers(0, 1000))
def test_a_batch_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    first, second = some_blocks(), some_blocks()
    second.batch(seed=seed + 1, step=3, batch_size=4)  # leaves no trace
    a = first.batch(seed=seed, step=step, batch_size=4)
    b = second.batch(seed=seed, step=step, batch_size=4)
    assert a.shape == (4, 16)
    assert np.array_equal(a, b)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_batch_of_one(num_ranks: int) -> None:
    blocks = some_blocks()
    parts = [
        blocks.batch(seed=3, step=77, batch_size=8, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]
    assert np.array_equal(np.concatenate(parts), blocks.batch(seed=3, step=77, batch_size=8))


def test_an_epoch_visits_every_block_once_and_in_another_order_each_time() -> None:
    blocks = cut(corpus([2080], np.arange(1, 2081)))
    num_blocks = len(blocks.train)
    steps = [blocks.batch(seed=0, step=step, batch_size=1)[0, 3] for step in range(2 * num_blocks)]
    first, second = steps[:num_blocks], steps[num_blocks:]
    assert sorted(first) == sorted(second) == sorted(blocks.train.take(range(num_blocks))[:, 3])
    assert first != second
    epochs, rest = blocks.trained(seed=0, num_blocks=num_blocks + 5)
    assert epochs == 1
    assert [blocks.train.take([i])[0, 3] for i in rest] == second[:5]


def test_a_mapped_stream_is_read_where_it_lies(tmp_path: Path) -> None:
    stream = corpus([5_000])
    stream.tokens.tofile(tmp_path / "tokens.bin")
    mapped = TokenStream(
        tokens=np.memmap(tmp_path / "tokens.bin", np.uint32, "r"),
        doc_starts=stream.doc_starts,
        vocab_size=stream.vocab_size,
        num_bytes=0,
    )
    blocks = cut(mapped)
    assert blocks.train.stream.tokens is mapped.tokens
    assert joined(blocks, "train") == joined(cut(stream), "train")


def test_a_small_corpus_is_an_error_that_counts_blocks() -> None:
    with pytest.raises(InputError, match=r"\d training and \d held-out blocks of 16 tokens; at"):
        cut(corpus([15]))
