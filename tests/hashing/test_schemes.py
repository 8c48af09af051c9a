from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import SpecError, UsageError
from ngscale.hashing.byte_hashes import Crc32, Ideal, Murmur3
from ngscale.hashing.longcat import Polynomial, gram_codes
from ngscale.hashing.multiply_xor import MultiplyXor
from ngscale.hashing.registry import SCHEMES, gram_scheme, make_scheme
from ngscale.hashing.scheme import Scheme
from ngscale.hashing.wrapping import WrappingPolynomial
from ngscale.spec import PolynomialHash
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


def test_seeds_beside_each_other_are_draws_of_their_own() -> None:
    """A seed that only permutes the oldest tokens would fill as many rows as every other one."""
    grams = np.stack([np.arange(4096) % 64, np.arange(4096) // 64]).astype(np.uint32)
    filled = [len(np.unique(Ideal(seed=seed).rows(grams, 4096))) for seed in range(8)]
    assert len(set(filled)) > 4


def test_what_would_not_be_exact_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="overflow"):
        Polynomial(base=2**31).check(vocab_size=2, table_rows=2**31 - 1, max_order=8)
    with pytest.raises(SpecError, match=r"multiply-xor: multiplier \d+ times id \d+ overflows"):
        MultiplyXor(multipliers=(2**50 + 1, 3)).check(vocab_size=2**20, table_rows=10, max_order=2)
    with pytest.raises(SpecError, match="order 4 needs 4"):
        MultiplyXor(multipliers=QWEN).check(vocab_size=100, table_rows=10, max_order=4)
    with pytest.raises(SpecError, match="odd"):
        MultiplyXor(multipliers=(3, 4))
    for scheme in (
        *(Crc32(), Ideal(), Murmur3(), MultiplyXor(multipliers=QWEN), Polynomial(base=10)),
        *(WrappingPolynomial(base=10, width="uint32"), WrappingPolynomial(base=10, width="int64")),
    ):
        with pytest.raises(SpecError, match="2147483648"):
            scheme.check(vocab_size=10, table_rows=2**31, max_order=2)


@pytest.mark.parametrize(("kind", "bits"), [(Murmur3, 32), (Ideal, 64)])
def test_seeds_have_their_bits_and_no_more(kind: type[Murmur3] | type[Ideal], bits: int) -> None:
    for seed in (0, 1, 2**bits - 1):
        kind(seed=seed).check(vocab_size=10, table_rows=97, max_order=2)
    for seed in (-1, 2**bits):
        with pytest.raises(SpecError, match=f"the seed has {bits} bits, got {seed}"):
            kind(seed=seed).check(vocab_size=10, table_rows=97, max_order=2)


def test_the_largest_multiplier_is_one_whose_products_stay_below_2_63() -> None:
    """(2**31 - 1) * (2**32 + 1) = 2**63 + 2**31 - 2**32 - 1, and the next odd one is beyond."""
    fits, beyond = MultiplyXor(multipliers=(2**32 + 1,)), MultiplyXor(multipliers=(2**32 + 3,))
    fits.check(vocab_size=2**31, table_rows=97, max_order=1)
    assert (2**31 - 1) * (2**32 + 3) >= 2**63
    with pytest.raises(SpecError, match="overflows 63 bits"):
        beyond.check(vocab_size=2**31, table_rows=97, max_order=1)


def test_wrapping_weights_are_the_smallest_of_their_class() -> None:
    """Modulo 2**32, in -2**31..2**31-1: what torch's int64 multiplies without overflow."""
    wide = MultiplyXor(multipliers=(2**31 - 1, 2**31 + 1, 2**32 + 3), wrapping=True)
    assert wide.weights(3, 97) == [2**31 - 1, 1 - 2**31, 3]
    assert MultiplyXor(multipliers=QWEN).weights(2, 97) == list(QWEN[:2])


def test_a_scheme_is_described_whole() -> None:
    described = [
        *(scheme.describe() for scheme in schemes()),
        WrappingPolynomial(base=5, width="int64", oldest_first=True).describe(),
    ]
    assert described == [
        {"name": "longcat", "base": 248_320},
        {"name": "multiply-xor", "multipliers": list(QWEN)},
        {"name": "crc32"},
        {"name": "murmur3", "seed": 7},
        {"name": "ideal", "seed": 7},
        {"name": "polynomial-int64", "base": 5, "oldest_first": True},
    ]
    assert WrappingPolynomial(base=5, width="uint32").describe()["oldest_first"] is False


def test_options_reach_the_scheme_and_keys_are_0_without_one() -> None:
    assert make_scheme("longcat", vocab_size=100) == Polynomial(base=100)
    assert make_scheme("longcat", vocab_size=100, base=101) == Polynomial(base=101)
    made = make_scheme("multiply-xor", vocab_size=100, multipliers=[3, 5])
    assert made == MultiplyXor(multipliers=(3, 5), wrapping=False)
    for name, kind in (("murmur3", Murmur3), ("ideal", Ideal)):
        assert make_scheme(name, vocab_size=100, seed=3) == kind(seed=3)
        assert make_scheme(name, vocab_size=100) == kind() == kind(seed=0)


def test_the_hash_of_a_spec_is_that_of_its_first_table_unless_one_is_named() -> None:
    bases = PolynomialHash(base=3, table_bases=(3, 5), arithmetic="int64")
    first = WrappingPolynomial(base=3, width="int64", oldest_first=False)
    assert gram_scheme(bases) == first
    assert gram_scheme(bases, 1) == WrappingPolynomial(base=5, width="int64")


def test_ids_too_large_for_32_bit_lanes_are_hashed_exactly() -> None:
    """From 2**24 on the float64 quotient of the 32-bit kernel would not be exact."""
    base, rows = 2**26, 1_000_003
    grams = np.array([[2**24, 2**24 - 1, 0], [2**26 - 1, 5, 2**25 + 1]], dtype=np.uint32)
    exact = [reference.polynomial_row(gram, base, rows) for gram in grams.T.tolist()]
    assert Polynomial(base=base).rows(grams, rows).tolist() == exact


def test_codes_are_the_polynomial_itself_where_it_is_one_to_one_and_fits() -> None:
    """Newest token first: 3 + 2*7, 6 + 2*7, 0 + 4*7."""
    grams = np.array([[3, 6, 0], [2, 2, 4]], dtype=np.uint32)
    coded = gram_codes(grams, hash_base=7)
    assert coded is not None
    assert (coded[0].tolist(), coded[1]) == ([17, 20, 28], True)
    turned = gram_codes(grams[:, ::-1].copy(), hash_base=7)
    assert turned is not None
    assert (turned[0].tolist(), turned[1]) == ([28, 20, 17], False)
    assert gram_codes(grams, hash_base=6) is None  # the id 6 is not below it
    assert gram_codes(grams, hash_base=2**31) is not None  # 2**62
    assert gram_codes(grams, hash_base=3_037_000_500) is None  # the first square above 2**63


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
