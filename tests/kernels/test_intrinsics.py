"""The compiled access and its plain twin, against bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from ngscale.kernels.intrinsics import GRANULE_BITS, or_bits
from tests.reference import or_bytes


@njit  # type: ignore[untyped-decorator, unused-ignore]
def compiled(table, at, bits, masks):  # type: ignore[no-untyped-def]
    return or_bits(table, at, bits, masks)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("dtype", [np.uint64, np.uint8])
@pytest.mark.parametrize("access", [or_bits, compiled], ids=["plain", "compiled"])
@given(st.binary(min_size=24, max_size=24), st.integers(0, 16), st.integers(0, 2**64 - 1))
def test_bits_are_set_at_any_byte_and_the_old_ones_returned(
    access: object, dtype: type[np.generic], content: bytes, at: int, bits: int
) -> None:
    width = np.dtype(dtype).itemsize
    bits %= 256**width
    table = np.frombuffer(content, dtype=np.uint8).copy()
    expected, old = or_bytes(list(content), at, bits, width)
    assert callable(access)
    assert access(table, at, np.uint64(bits), np.empty(0, dtype)) == old
    assert table.tolist() == expected


def test_a_granule_fits_its_word_at_any_bit_of_a_byte() -> None:
    assert (2**GRANULE_BITS - 1) << 7 < 2**64
