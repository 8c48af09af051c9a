"""Primes near a table size, exactly: engineers choose prime tables, so the tools name them."""

from ngscale.errors import UsageError

_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
EXACT_BELOW = 3_317_044_064_679_887_385_961_981
"""The smallest composite that passes for a prime with every witness (OEIS A014233, term 13)."""


def is_prime(number: int) -> bool:
    """Whether ``number`` is prime: Miller-Rabin with the first 13 primes as witnesses.

    Raises:
        UsageError: the number is so large that these witnesses prove nothing.
    """
    if number >= EXACT_BELOW:
        raise UsageError(f"{number}: primes are known exactly only below {EXACT_BELOW:,}")
    if number < 2:
        return False
    for witness in _WITNESSES:
        if number % witness == 0:
            return number == witness
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    return all(_passes(number, witness, twos) for witness in _WITNESSES)


def _passes(number: int, witness: int, twos: int) -> bool:
    """Whether an odd ``number`` is a strong probable prime; ``2**twos`` divides ``number - 1``."""
    power = pow(witness, (number - 1) >> twos, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def next_prime(number: int) -> int:
    """The smallest prime above ``number``."""
    candidate = max(2, number + 1)
    while not is_prime(candidate):
        candidate += 1
    return candidate


def previous_prime(number: int) -> int | None:
    """The largest prime below ``number``; None where there is none."""
    return next((below for below in range(number - 1, 1, -1) if is_prime(below)), None)
