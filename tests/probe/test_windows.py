from pathlib import Path

import numpy as np
import pytest

from ngscale.errors import InputError, UsageError
from ngscale.probe.windows import check_vocabulary, cut_windows, special_prefix
from ngscale.tokens import TokenStream, load_tokenizer
from tests.probe.models import save_tokenizer


def stream(num_tokens: int) -> TokenStream:
    return TokenStream(
        tokens=np.arange(num_tokens, dtype=np.uint32),
        doc_starts=np.array([0, num_tokens]),
        vocab_size=1000,
        num_bytes=0,
    )


def test_the_first_window_is_the_beginning_and_the_others_are_evenly_spaced() -> None:
    windows = cut_windows([stream(100)], (), num_windows=3, window_tokens=4)
    assert [place.start for place in windows.places] == [0, 33, 66]
    assert windows.ids.tolist() == [[0, 1, 2, 3], [33, 34, 35, 36], [66, 67, 68, 69]]


def test_other_draws_are_at_random_places_of_the_same_parts() -> None:
    texts = [stream(100), stream(100)]
    windows = cut_windows(texts, (), num_windows=4, window_tokens=5, draws=3)
    assert windows.ids.shape == (2 * 3 * 4, 5)
    starts = {
        (text, draw): [p.start for p in windows.places if (p.text, p.draw) == (text, draw)]
        for text in (0, 1)
        for draw in (0, 1, 2)
    }
    assert starts[0, 0] == starts[1, 0] == [0, 25, 50, 75]
    assert len({tuple(found) for found in starts.values()}) == 5  # only draw 0 is the same
    for found in starts.values():
        for part, start in enumerate(found):
            assert 25 * part <= start <= 25 * part + 20
    again = cut_windows(texts, (), num_windows=4, window_tokens=5, draws=3)
    assert again.places == windows.places


def test_a_prefix_counts_towards_the_window() -> None:
    windows = cut_windows([stream(100)], (7,), num_windows=2, window_tokens=4)
    assert windows.ids.tolist() == [[7, 0, 1, 2], [7, 50, 51, 52]]


def test_windows_never_overlap() -> None:
    cut_windows([stream(12)], (), num_windows=3, window_tokens=4)
    with pytest.raises(InputError, match="too short: 11 tokens, 3 windows of 4 need 12"):
        cut_windows([stream(11)], (), num_windows=3, window_tokens=4)


def test_a_window_of_prefix_alone_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--tokens 2: needs at least 3"):
        cut_windows([stream(11)], (1,), num_windows=1, window_tokens=2)


@pytest.mark.parametrize(("bos", "prefix"), [(True, (1,)), (False, ())])
def test_the_prefix_is_what_the_tokenizers_template_says(
    tmp_path: Path, bos: bool, prefix: tuple[int, ...]
) -> None:
    save_tokenizer(tmp_path, bos=bos)
    assert special_prefix(load_tokenizer(str(tmp_path))) == prefix


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    windows = cut_windows([stream(4)], (), num_windows=1, window_tokens=4)
    check_vocabulary(tokenizer, windows, 97)
    with pytest.raises(InputError, match="ids up to 96, the model's vocabulary ends at 95"):
        check_vocabulary(tokenizer, windows, 96)


def test_an_added_token_the_model_lacks_is_refused_only_where_a_text_has_it(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    tokenizer.backend.add_special_tokens(["<image>"])  # id 97
    windows = cut_windows([stream(98)], (), num_windows=1, window_tokens=97)
    check_vocabulary(tokenizer, windows, 97)
    with_image = cut_windows([stream(98)], (), num_windows=1, window_tokens=98)
    with pytest.raises(InputError, match="ids up to 97"):
        check_vocabulary(tokenizer, with_image, 97)
