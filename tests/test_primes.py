import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.errors import UsageError
from ngscale.primes import EXACT_BELOW, is_prime, next_prime, previous_prime

SIEVED = 20_000


def sieve(limit: int) -> set[int]:
    """Eratosthenes."""
    found = set(range(2, limit))
    for number in range(2, int(limit**0.5) + 1):
        found -= set(range(number * number, limit, number))
    return found


def test_small_primes_are_those_of_the_sieve() -> None:
    assert {number for number in range(-3, SIEVED) if is_prime(number)} == sieve(SIEVED)


@given(st.integers(2, 2**31 - 1))
def test_table_sizes_are_prime_when_nothing_divides_them(number: int) -> None:
    divisors = [2, *range(3, int(number**0.5) + 1, 2)]
    assert is_prime(number) == all(number % d or number == d for d in divisors)


def test_published_numbers() -> None:
    """OEIS A014233, the smallest strong pseudoprimes to the first k prime bases (k = 1..12); the
    Mersenne primes 2**31 - 1 and 2**61 - 1; Carmichael's 561; 2**67 - 1 = 193707721 x
    761838257287 (Cole 1903)."""
    pseudoprimes = [
        2047, 1_373_653, 25_326_001, 3_215_031_751, 2_152_302_898_747, 3_474_749_660_383,
        341_550_071_728_321, 3_825_123_056_546_413_051, 318_665_857_834_031_151_167_461,
    ]  # fmt: skip
    assert not any(map(is_prime, [*pseudoprimes, 561, 2**67 - 1]))
    assert is_prime(2**31 - 1)
    assert is_prime(2**61 - 1)


@given(st.integers(-5, 10**12))
def test_neighbours_are_the_nearest_primes(number: int) -> None:
    above = next_prime(number)
    assert above > number
    assert is_prime(above)
    assert not any(is_prime(between) for between in range(number + 1, above))
    below = previous_prime(number)
    if below is None:
        assert number <= 2
    else:
        assert below < number
        assert is_prime(below)
        assert not any(is_prime(between) for between in range(below + 1, number))


def test_a_number_beyond_the_proof_is_refused() -> None:
    with pytest.raises(UsageError, match="known exactly only below"):
        is_prime(EXACT_BELOW)
