"""Which table sizes a sweep measures: arithmetic on the hash base, no corpus."""

from ngscale.errors import UsageError
from ngscale.primes import next_prime, previous_prime
from ngscale.resonance import fractions_between, nearest_rows

_COARSE_STEPS = 60.618034
"""Not a whole number: 60 steps over 3 x V0 would put every coarse size near a twentieth of V0."""
_OFFSETS = (1, 2, 3, 5, 9, 17, 31, 61, 121, 241, 481, 961)
"""Distances from an integer multiple, about log-spaced: a shoulder dies within a thousand rows."""
_FRACTION_OFFSETS = (1, 3)
MAX_SIZES = 1_000_000


def ratio_grid(low: float, high: float, base: int, step: int | None = None) -> list[int]:
    """Sizes of [low, high] x base: every ``step`` rows, or, without a step, coarse everywhere,
    dense around integer multiples, whose nearest primes are among them, and at every p/q with
    q <= 6 (a little beyond both ends).

    Raises:
        UsageError: more than ``MAX_SIZES`` sizes.
    """
    first = nearest_rows(*low.as_integer_ratio(), base)
    last = nearest_rows(*high.as_integer_ratio(), base)
    if step is not None:
        return _every(first, last, step)
    sizes = set(_every(first, last, max(1, round((last - first) / _COARSE_STEPS)))) | {last}
    for p, q in fractions_between(low, high):
        offsets = _OFFSETS if q == 1 else _FRACTION_OFFSETS
        middle = nearest_rows(p, q, base)
        sizes |= {middle + sign * offset for offset in (0, *offsets) for sign in (-1, 1)}
        sizes |= set(nearest_primes(middle)) if q == 1 else set()
    return sorted(size for size in sizes if size >= base)


def around_grid(ratio: float, within: int, base: int, step: int | None = None) -> list[int]:
    """Sizes within ``within`` rows of ratio x base: every ``step`` rows, or log-spaced offsets.

    Raises:
        UsageError: more than ``MAX_SIZES`` sizes.
    """
    middle = nearest_rows(*ratio.as_integer_ratio(), base)
    if step is not None:
        sizes = set(_every(middle - within, middle + within, step)) | {middle}
    else:
        offsets = [offset for offset in _OFFSETS if offset < within] + [within]
        offsets += [2 * offset - 1 for offset in offsets if 2 * offset - 1 < within]
        sizes = {middle + sign * offset for offset in (0, *offsets) for sign in (-1, 1)}
        sizes |= {prime for prime in nearest_primes(middle) if abs(prime - middle) <= within}
    return sorted(size for size in sizes if size >= 1)


def nearest_primes(rows: int) -> list[int]:
    """The primes next below and above ``rows``."""
    below = previous_prime(rows)
    return [*([] if below is None else [below]), next_prime(rows)]


def _every(first: int, last: int, step: int) -> list[int]:
    count = (last - first) // step + 1
    if count > MAX_SIZES:
        raise UsageError(f"{count:,} sizes are more than {MAX_SIZES:,}; use a larger --step")
    return list(range(first, last + 1, step))
