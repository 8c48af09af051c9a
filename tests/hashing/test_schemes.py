from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import SpecError, UsageError
from ngscale.hashing.byte_hashes import Crc32, Ideal, Murmur3
from ngscale.hashing.longcat import Polynomial
from ngscale.hashing.multiply_xor import MultiplyXor
from ngscale.hashing.registry import SCHEMES, make_scheme
from ngscale.hashing.scheme import Scheme
from tests import reference

QWEN = (23703573157769, 20109073645365, 8052911324071)
"""Multipliers of Qwen3.8-Flash-Next's checkpoint (I64 buffer ``layer_multipliers``)."""
PLAIN: dict[str, Callable[[Sequence[int], int], int]] = {
    "longcat": lambda gram, rows: reference.polynomial_row(gram, 248_320, rows),
    "multiply-xor": lambda gram, rows: reference.multiply_xor_row(gram, QWEN, rows),
    "crc32": reference.crc32_row,
    "murmur3": lambda gram, rows: reference.murmur3_row(gram, 7, rows),
    "ideal": lambda gram, rows: reference.ideal_row(gram, 7, rows),
}


def schemes() -> list[Scheme]:
    return [
        Polynomial(base=248_320),
        MultiplyXor(multipliers=QWEN),
        Crc32(),
        Murmur3(seed=7),
        Ideal(seed=7),
    ]


@pytest.mark.parametrize("scheme", schemes(), ids=lambda s: s.name)
@given(
    st.integers(2, 3),
    st.one_of(st.integers(1, 100), st.integers(1, 2**31 - 1)),
    st.lists(
        st.tuples(*[st.one_of(st.sampled_from([0, 248_319]), st.integers(0, 248_319))] * 3),
        min_size=1,
        max_size=8,
    ),
)
def test_definition_and_numba_twin_match_plain_python(
    scheme: Scheme, order: int, rows: int, grams: list[tuple[int, int, int]]
) -> None:
    cut = [gram[:order] for gram in grams]
    plain = [PLAIN[scheme.name](gram, rows) for gram in cut]
    assert [scheme.row_exact(gram, rows) for gram in cut] == plain
    assert scheme.rows(np.array(cut, dtype=np.uint32).T.copy(), rows).tolist() == plain


@pytest.mark.parametrize("scheme", schemes(), ids=lambda s: s.name)
def test_longer_orders_match_too(scheme: Scheme) -> None:
    rng = np.random.default_rng(0)
    orders = (4, 5, 8) if scheme.name != "multiply-xor" else ()
    for order in orders:
        grams = rng.integers(0, 248_320, size=(order, 50)).astype(np.uint32)
        exact = [PLAIN[scheme.name](gram, 1_000_003) for gram in grams.T.tolist()]
        assert scheme.rows(grams, 1_000_003).tolist() == exact


def test_murmur3_reproduces_its_public_vectors() -> None:
    """MurmurHash3_x86_32 of b"test" and b"aaaa" (test vectors in circulation with smhasher)."""
    test, aaaa = (int.from_bytes(word, "little") for word in (b"test", b"aaaa"))
    modulus = 2**32
    assert reference.murmur3_row([test], 0, modulus) == 0xBA6BD213
    assert reference.murmur3_row([test], 0x9747B28C, modulus) == 0x704B81DC
    assert reference.murmur3_row([aaaa], 0x9747B28C, modulus) == 0x5A97808A


def test_the_ideal_hash_is_uniform_and_its_keys_are_independent() -> None:
    """Chi-square over 1,000 rows of 200,000 structured bigrams, below the 99.99% quantile."""
    grams = np.stack([np.arange(200_000) % 447, np.arange(200_000) // 447]).astype(np.uint32)
    for seed in range(3):
        seen = np.bincount(Ideal(seed=seed).rows(grams, 1000), minlength=1000)
        assert float(((seen - 200) ** 2 / 200).sum()) < 1175.0
    same = Ideal(seed=1).rows(grams, 1000) == Ideal(seed=2).rows(grams, 1000)
    assert abs(int(same.sum()) - 200) < 75


def test_what_would_not_be_exact_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="overflow"):
        Polynomial(base=2**31).check(vocab_size=2, table_rows=2**31 - 1, max_order=8)
    with pytest.raises(SpecError, match=r"multiply-xor: multiplier \d+ times id \d+ overflows"):
        MultiplyXor(multipliers=(2**50 + 1, 3)).check(vocab_size=2**20, table_rows=10, max_order=2)
    with pytest.raises(SpecError, match="order 4 needs 4"):
        MultiplyXor(multipliers=QWEN).check(vocab_size=100, table_rows=10, max_order=4)
    with pytest.raises(SpecError, match="odd"):
        MultiplyXor(multipliers=(3, 4))
    for scheme in (Crc32(), Ideal(), Murmur3()):
        with pytest.raises(SpecError, match="2147483648"):
            scheme.check(vocab_size=10, table_rows=2**31, max_order=2)


def test_options_of_another_scheme_are_refused_not_ignored() -> None:
    for name in SCHEMES:
        multipliers = QWEN if name == "multiply-xor" else None
        made = make_scheme(name, vocab_size=100, multipliers=multipliers)
        assert made.name == name
        assert made.describe()["name"] == name
    with pytest.raises(UsageError, match="--seed"):
        make_scheme("longcat", vocab_size=100, seed=3)
    with pytest.raises(UsageError, match="--base"):
        make_scheme("crc32", vocab_size=100, base=3)
    with pytest.raises(UsageError, match="--multipliers"):
        make_scheme("multiply-xor", vocab_size=100)
    with pytest.raises(UsageError, match="sha1"):
        make_scheme("sha1", vocab_size=100)
