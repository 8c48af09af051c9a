import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngscale.kernels import bitmap
from tests.reference import fold


def words_of(bits: set[int], origin: int, num_words: int) -> np.ndarray:
    value = sum(1 << (origin + bit) for bit in bits)
    return np.frombuffer(value.to_bytes(8 * num_words, "little"), dtype=np.uint64).copy()


def bits_of(words: np.ndarray, origin: int, first: int, last: int) -> set[int]:
    value = int.from_bytes(words.tobytes(), "little")
    return {bit for bit in range(first, last) if value >> (origin + bit) & 1}


@st.composite
def zoned(draw: st.DrawFn) -> tuple[int, int, int, set[int], set[int]]:
    """(rows, left, right, occupied, twice): a table with guard zones of whole words."""
    rows = draw(st.integers(192, 700))
    most = (rows - 64) // 64
    left, right = 64 * draw(st.integers(0, most)), 64 * draw(st.integers(0, most))
    bit = st.one_of(
        st.integers(-left, rows + right - 1),
        st.sampled_from([-left, 0, rows - 1, rows + right - 1]),
    )
    occupied = draw(st.sets(bit, max_size=60))
    twice = set(draw(st.lists(st.sampled_from(sorted(occupied)))) if occupied else [])
    return rows, left, right, occupied, twice


@given(zoned())
def test_folding_brings_every_position_to_its_row(
    case: tuple[int, int, int, set[int], set[int]],
) -> None:
    rows, left, right, occupied, twice = case
    num_words = (left + rows + right) // 64 + 3
    once = words_of(occupied, left, num_words)
    bitmap.fold(once, left, rows, left, right)
    expected, repeated = fold(occupied, rows)
    assert bits_of(once, left, 0, rows) == expected
    assert bitmap.count(once, left, rows, bitmap.ALL) == len(expected)

    first, second = words_of(occupied, left, num_words), words_of(twice, left, num_words)
    bitmap.fold_twice(first, second, left, rows, left, right)
    more = repeated | fold(twice, rows)[0]
    assert bits_of(first, left, 0, rows) == expected
    assert bits_of(second, left, 0, rows) == more
    assert bitmap.count(second, left, rows, bitmap.ALL) == len(more)

    bitmap.unfold(second, left, rows, left, right)
    seen = bits_of(second, left, -left, rows + right)
    assert seen == {bit for bit in range(-left, rows + right) if bit % rows in more}


@given(st.integers(0, 300), st.sets(st.integers(0, 400)))
def test_counting_masks_what_lies_behind_the_last_row(rows: int, bits: set[int]) -> None:
    words = words_of(bits, 64, 8)
    inside = {bit for bit in bits if bit < rows}
    assert bitmap.count(words, 64, rows, bitmap.ALL) == len(inside)
    assert bitmap.count(words, 64, rows, bitmap.EVEN) == sum(bit % 2 == 0 for bit in inside)
    assert bitmap.count(words, 64, rows, bitmap.ODD) == sum(bit % 2 == 1 for bit in inside)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_odd_bits_are_packed_in_order(words: list[int]) -> None:
    twice = np.empty((len(words) + 1) // 2, dtype=np.uint64)
    bitmap.held_twice(np.array(words, dtype=np.uint64), twice)
    value = sum(word << (64 * i) for i, word in enumerate(words))
    expected = sum((value >> (2 * row + 1) & 1) << row for row in range(32 * len(words)))
    assert int.from_bytes(twice.tobytes(), "little") == expected
