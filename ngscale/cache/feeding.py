"""Tiers of memory one behind the other: what each serves of a token's rows, and at which rate.

Rows live where they were used last: the first tier holds the most recent pages, the second the next
ones, the last one everything (exclusive LRU caches, whose sizes add up). What a tier serves of a
token's reads is therefore the difference of two points of the miss-ratio curve, and how fast it can
is ``ngscale.tiers.feed``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Protocol

from ngscale.errors import UsageError
from ngscale.tiers import TIERS, TableReads, Tier, feed, is_validated, tier_named
from ngscale.units import parse_bytes


class MissCurve(Protocol):
    """``reuse.Curve`` or ``sampling.SampledCurve``."""

    @property
    def num_accesses(self) -> int:
        """Reads of the whole trace."""

    def misses_at(self, rows: int) -> int:
        """Misses of a cache of so many rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A tier, and what of it is given to table rows."""

    tier: Tier
    bytes_held: int | None
    """None for all that is left: the last level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one level does for a token, on average."""

    level: Level
    rows_asked: float
    """Rows (pages) that no level before it had."""
    rows_served: float
    bytes_moved: float
    """Whole sectors or pages of the device."""
    bound_by: str | None
    max_tokens_per_s: float | None
    """Where this tier saturates; None where it serves nothing."""
    fits: bool
    validated: bool


def serve(
    levels: Sequence[Level],
    curve: MissCurve,
    *,
    num_tokens: int,
    bytes_per_page: int,
    table_bytes: int,
) -> list[Served]:
    """What each level serves of the accesses of ``num_tokens`` tokens."""
    found, pages, asked = [], 0, curve.num_accesses
    for level in levels:
        left = 0
        if level.bytes_held is not None:
            pages += level.bytes_held // bytes_per_page
            left = min(asked, curve.misses_at(pages))
        reads = TableReads(
            table_bytes=table_bytes if level.bytes_held is None else level.bytes_held,
            rows_per_token=Fraction(asked - left, num_tokens),
            bytes_per_row=bytes_per_page,
        )
        fed = feed(level.tier, reads) if asked > left else None
        found.append(
            Served(
                level=level,
                rows_asked=asked / num_tokens,
                rows_served=(asked - left) / num_tokens,
                bytes_moved=float(fed.bytes_per_token) if fed else 0.0,
                bound_by=fed.bound_by if fed else None,
                max_tokens_per_s=fed.max_tokens_per_s if fed else None,
                fits=reads.table_bytes <= level.tier.capacity_bytes,
                validated=is_validated(level.tier),
            )
        )
        asked = left
    return found


_NUMBERS = {
    "bandwidth": "bytes_per_s",
    "latency": "latency_s",
    "iops": "reads_per_s",
    "read": "read_bytes",
    "in-flight": "reads_in_flight",
}
_WHOLE = ("read_bytes", "reads_in_flight")


def parse_levels(texts: Sequence[str]) -> list[Level]:
    """``hbm-h100=4G``, ``nvme-pm9a3:iops=1e6:latency=60e-6``; the last one holds what is left.

    Raises:
        UsageError: a tier that is not known, of no size, or with numbers no device has.
    """
    levels = [_level(text) for text in texts]
    for text, level in zip(texts, levels, strict=True):
        if (level.bytes_held is None) != (level is levels[-1]):
            raise UsageError(
                f"--tier {text}: every tier but the last one has a size (hbm-h100=4G); the last "
                "one holds the tables"
            )
        if level.bytes_held is not None and level.bytes_held > level.tier.capacity_bytes:
            raise UsageError(f"--tier {text}: has {level.tier.capacity_bytes:,} bytes in all")
    return levels


def _level(text: str) -> Level:
    head, *settings = text.split(":")
    name, given, size = head.partition("=")
    if name not in (known := [tier.name for tier in TIERS]):
        raise UsageError(f"--tier {text}: {name} is none of {', '.join(known)}")
    tier = tier_named(name)
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in _NUMBERS:
            raise UsageError(f"--tier {text}: {key} is none of {', '.join(_NUMBERS)}")
        tier = _with(tier, _NUMBERS[key], value, text)
    return Level(tier=tier, bytes_held=parse_bytes(size) if given else None)


def _with(tier: Tier, field: str, value: str, text: str) -> Tier:
    assert field in {known.name for known in fields(Tier)}
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < 1e18 or (field in _WHOLE and number % 1):
        raise UsageError(f"--tier {text}: {field} {value!r} is not what a device can have")
    setting = {field: int(number) if field in _WHOLE else number}
    return replace(tier, source=f"{tier.source}; {field} as given", **setting)  # type: ignore[arg-type]
