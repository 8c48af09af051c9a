"""Which tokens are probed: windows of a corpus, cut by the checkpoint's own tokenizer."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ngscale.errors import InputError, UsageError
from ngscale.tokens import Tokenizer, TokenStream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Token ids to run, and where in the corpus they start."""

    ids: Int64[np.ndarray, "W T"]
    starts: tuple[int, ...]
    """Index of each window's first corpus token."""
    prefix: tuple[int, ...]
    """Ids the tokenizer puts before any text (BOS); they count towards the window's length."""


def special_prefix(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The special ids that the tokenizer's own template puts first; empty for many.

    A model trained with a BOS token keeps its massive activation there, so leaving it out would
    move that activation onto a word.
    """
    encoding = tokenizer.backend.encode("a", add_special_tokens=True)
    special = [*encoding.special_tokens_mask, 0]
    return tuple(encoding.ids[: special.index(0)])


def check_vocabulary(tokenizer: Tokenizer, windows: Windows, vocab_size: int) -> None:
    """Refuse a tokenizer whose ids the model has no embedding for.

    Added tokens beyond the vocabulary are harmless until a text holds one: Gemma 3's tokenizer has
    an image token that its text models lack.

    Raises:
        InputError: names the id and the model's vocabulary size.
    """
    ordinary = max(tokenizer.backend.get_vocab(with_added_tokens=False).values(), default=0)
    largest = max(ordinary, int(windows.ids.max()))
    if largest >= vocab_size:
        raise InputError(
            f"tokenizer {tokenizer.name}: has ids up to {largest}, the model's vocabulary ends at "
            f"{vocab_size - 1}; --tokenizer takes the one it was trained with"
        )


def cut_windows(
    stream: TokenStream, prefix: tuple[int, ...], *, num_windows: int, window_tokens: int
) -> Windows:
    """Windows at ``i * (tokens // num_windows)``: evenly spaced, the first at the very beginning.

    Documents follow one another; a window may run over a boundary.

    Raises:
        InputError: the corpus is too short for so many windows without overlap.
        UsageError: a window has no room for text after the prefix.
    """
    text_tokens = window_tokens - len(prefix)
    if text_tokens < 2:
        raise UsageError(f"--tokens {window_tokens}: needs at least {len(prefix) + 2}")
    if stream.num_tokens < num_windows * text_tokens:
        raise InputError(
            f"the corpus is too short: {stream.num_tokens:,} tokens, {num_windows} windows of "
            f"{text_tokens:,} need {num_windows * text_tokens:,}; lower --tokens or --windows"
        )
    step = stream.num_tokens // num_windows
    starts = tuple(index * step for index in range(num_windows))
    text = np.stack([stream.tokens[start : start + text_tokens] for start in starts])
    before = np.tile(np.array(prefix, dtype=np.int64), (num_windows, 1))
    ids = np.concatenate([before, text.astype(np.int64)], axis=1)  # (W, T)
    return Windows(ids=ids, starts=starts, prefix=prefix)
