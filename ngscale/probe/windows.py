"""Which tokens are probed: windows of a corpus, cut by the checkpoint's own tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ngscale.corpus import embedded_dir
from ngscale.errors import InputError, UsageError
from ngscale.tokens import Tokenizer, TokenStream, load_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a window was cut."""

    text: int
    """Number of its text."""
    draw: int
    """0: evenly spaced; others: the seed of random places."""
    start: int
    """Index of its first token in the text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """Token ids to run, and where they come from."""

    ids: Int64[np.ndarray, "W T"]
    places: tuple[Place, ...]
    """One per window."""
    prefix: tuple[int, ...]
    """Ids the tokenizer puts before any text (BOS); they count towards the window's length."""


def tokenizer_name(directory: Path, *, vocab_size: int, is_own: bool) -> str:
    """The checkpoint's directory, or the embedded tokenizer of our own decoder's vocabulary.

    Raises:
        InputError: there is no tokenizer.json, and no embedded one that is known to be meant.
    """
    if (directory / "tokenizer.json").is_file():
        return str(directory)
    if is_own:
        for path in sorted((embedded_dir() / "tokenizers").glob("*/tokenizer.json")):
            if load_tokenizer(path.parent.name).vocab_size == vocab_size:
                return path.parent.name
    raise InputError(f"{directory}: has no tokenizer.json; --tokenizer names the model's own")


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
    texts: Sequence[TokenStream],
    prefix: tuple[int, ...],
    *,
    num_windows: int,
    window_tokens: int,
    draws: int = 1,
) -> Windows:
    """``num_windows`` of every text in every draw.

    A text is cut into that many equal parts. Draw 0 takes the start of each, so its first window
    is the very beginning; draw s takes a place in each, uniformly by ``default_rng([s, text])``.
    Documents follow one another; a window may run over a boundary.

    Raises:
        InputError: a text is too short for so many windows without overlap.
        UsageError: a window has no room for text after the prefix.
    """
    text_tokens = window_tokens - len(prefix)
    if text_tokens < 2:
        raise UsageError(f"--tokens {window_tokens}: needs at least {len(prefix) + 2}")
    places = []
    for number, text in enumerate(texts):
        if text.num_tokens < num_windows * text_tokens:
            raise InputError(
                f"the corpus is too short: {text.num_tokens:,} tokens, {num_windows} windows of "
                f"{text_tokens:,} need {num_windows * text_tokens:,}; lower --tokens or --windows"
            )
        step = text.num_tokens // num_windows
        for draw in range(draws):
            room = step - text_tokens + 1 if draw else 1
            offsets = np.random.default_rng([draw, number]).integers(0, room, size=num_windows)
            places += [
                Place(text=number, draw=draw, start=index * step + int(offset))
                for index, offset in enumerate(offsets)
            ]
    cut = [texts[p.text].tokens[p.start : p.start + text_tokens] for p in places]
    before = np.tile(np.array(prefix, dtype=np.int64), (len(places), 1))
    ids = np.concatenate([before, np.stack(cut).astype(np.int64)], axis=1)  # (W, T)
    return Windows(ids=ids, places=tuple(places), prefix=prefix)
