"""Numbers as people write them: 31.4B parameters, 80G of memory, 45.8%."""

import re
from collections.abc import Mapping
from fractions import Fraction

from ngscale.errors import UsageError

MAX_WHOLE = 2**63 - 1
"""Of what a user may write: int64 holds it, and so does a float what is made of it."""
_COUNT_SUFFIXES = (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3))
_BYTE_SUFFIXES = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def format_count(count: float) -> str:
    """Three significant decimals with a suffix: 31406985216 -> ``31.407B``."""
    for suffix, factor in _COUNT_SUFFIXES:
        if abs(count) >= factor:
            return f"{count / factor:.3f}{suffix}"
    return f"{count:,.0f}"


def format_bytes(num_bytes: float) -> str:
    """Binary units: 2**30 -> ``1.00 GiB``."""
    for suffix, factor in _BYTE_SUFFIXES:
        if abs(num_bytes) >= factor:
            return f"{num_bytes / factor:,.2f} {suffix}"
    return f"{num_bytes:,.0f} B"


def format_share(frac: float) -> str:
    """A fraction in [0, 1] as a percentage: 0.4581 -> ``45.81%``."""
    return f"{100 * frac:.2f}%"


def format_duration(seconds: float) -> str:
    """Two units at most: 4000 -> ``1 h 7 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def parse_whole(text: str, largest: int = MAX_WHOLE) -> int:
    """A number from 1 to ``largest`` in plain digits, or 0 where it is none."""
    number = int(text) if re.fullmatch(r"[0-9]{1,19}", text) else 0
    return number if number <= largest else 0


def parse_bytes(text: str) -> int:
    """``4G``, ``512M``, ``2.5GiB`` or plain bytes; factors are powers of 1024.

    Raises:
        UsageError: it is not a positive amount.
    """
    factors = {suffix[0]: factor for suffix, factor in _BYTE_SUFFIXES}
    num_bytes = _scaled(text, factors, "(?:i?B)?")
    if not num_bytes:
        raise UsageError(f"{text}: is not an amount of memory; write 4G or 512M")
    return num_bytes


def parse_count(text: str) -> int:
    """``31.4B``, ``250M`` or a plain number; factors are powers of 1000.

    Raises:
        UsageError: it is not a positive count.
    """
    count = _scaled(text.replace("_", ""), dict(_COUNT_SUFFIXES))
    if not count:
        raise UsageError(f"{text}: is not a count; write 31.4B or 250M")
    return count


def _scaled(text: str, factors: Mapping[str, int], unit: str = "") -> int:
    """Exactly, through a fraction: 31.4B is 31,400,000,000. 0 where it is no positive amount."""
    amount = rf"(\d{{1,19}}(?:\.\d{{1,19}})?)\s*([{''.join(factors)}]?){unit}"
    match = re.fullmatch(amount, text.strip(), re.IGNORECASE | re.ASCII)
    number = int(Fraction(match[1]) * factors.get(match[2].upper(), 1)) if match else 0
    return number if number <= MAX_WHOLE else 0
