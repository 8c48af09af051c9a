"""Tiers of memory one behind the other: what each serves of a token's rows, and at which rate.

Rows live where they were used last: the first tier holds the most recent pages, the second the next
ones, the last one everything (exclusive LRU caches, whose sizes add up). What a tier serves of a
token's reads is therefore the difference of two points of the miss-ratio curve, and how fast it can
is ``ngscale.tiers.feed``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

from ngscale.errors import UsageError
from ngscale.tiers import TIERS, Feed, TableReads, Tier, feed, is_validated, tier_named
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
    """Rows (pages) that every level before it missed."""
    bytes_asked: float
    rows_served: float
    bytes_moved: float
    """Of the rows served: whole sectors or pages of the device."""
    bound_by: str | None
    max_tokens_per_s: float | None
    """Where this tier saturates; None where it serves nothing."""
    step_s: float
    """For the reads of a step and one latency, nothing hidden."""
    fits: bool
    validated: bool


def check_room(levels: Sequence[Level], bytes_per_page: int) -> None:
    """Refuse a tier that holds nothing.

    Raises:
        UsageError: it is smaller than a page.
    """
    for level in levels:
        if level.bytes_held is not None and level.bytes_held < bytes_per_page:
            raise UsageError(
                f"--tier {level.tier.name}={level.bytes_held}: is smaller than one page of "
                f"{bytes_per_page:,} bytes"
            )


def asked_of(levels: Sequence[Level], curve: MissCurve, bytes_per_page: int) -> list[int]:
    """Reads that reach each level: all, then what the levels before it miss together."""
    asked, pages = [curve.num_accesses], 0
    for level in levels[:-1]:
        pages += (level.bytes_held or 0) // bytes_per_page
        asked.append(min(asked[-1], curve.misses_at(pages)))
    return asked


def serve(
    levels: Sequence[Level],
    asked: Sequence[int],
    *,
    num_tokens: int,
    step_tokens: int,
    bytes_per_page: int,
    table_bytes: int,
) -> list[Served]:
    """What each level serves of the reads that reach it (``asked_of``)."""
    found = []
    for level, reads, left in zip(levels, asked, [*asked[1:], 0], strict=True):
        held = table_bytes if level.bytes_held is None else level.bytes_held
        fed = _fed(level.tier, reads - left, num_tokens, bytes_per_page, held)
        found.append(
            Served(
                level=level,
                rows_asked=reads / num_tokens,
                bytes_asked=reads * bytes_per_page / num_tokens,
                rows_served=(reads - left) / num_tokens,
                bytes_moved=float(fed.bytes_per_token) if fed else 0.0,
                bound_by=fed.bound_by if fed else None,
                max_tokens_per_s=fed.max_tokens_per_s if fed else None,
                step_s=level.tier.latency_s + step_tokens * fed.seconds_per_token if fed else 0.0,
                fits=held <= level.tier.capacity_bytes,
                validated=is_validated(level.tier),
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A kind of memory that holds all tables, by itself or behind the first level."""

    tier: Tier
    fits: bool
    alone_tokens_per_s: float
    behind_tokens_per_s: float | None
    """Behind the first level; None where that misses nothing, or there is none."""
    alone_bytes: float
    behind_bytes: float
    validated: bool


def alone(
    levels: Sequence[Level],
    asked: Sequence[int],
    *,
    num_tokens: int,
    bytes_per_page: int,
    table_bytes: int,
) -> list[Alone]:
    """Every kind of memory known, with the numbers given where a level has others."""
    given = {level.tier.name: level.tier for level in levels}
    missed = asked[1] if len(asked) > 1 else 0
    found = []
    for known in TIERS:
        tier = given.get(known.name, known)
        every = _fed(tier, asked[0], num_tokens, bytes_per_page, table_bytes)
        assert every is not None  # a trace without reads has no curve
        behind = _fed(tier, missed, num_tokens, bytes_per_page, table_bytes)
        found.append(
            Alone(
                tier=tier,
                fits=every.fits,
                alone_tokens_per_s=every.max_tokens_per_s,
                behind_tokens_per_s=behind.max_tokens_per_s if behind else None,
                alone_bytes=float(every.bytes_per_token),
                behind_bytes=float(behind.bytes_per_token) if behind else 0.0,
                validated=is_validated(tier),
            )
        )
    return found


def _fed(
    tier: Tier, reads: int, num_tokens: int, bytes_per_page: int, table_bytes: int
) -> Feed | None:
    """None where nothing is read."""
    if not reads:
        return None
    wanted = TableReads(
        table_bytes=table_bytes,
        rows_per_token=Fraction(reads, num_tokens),
        bytes_per_row=bytes_per_page,
    )
    return feed(tier, wanted)


_NUMBERS = {
    "bandwidth": ("bytes_per_s", 1e3, 1e15),
    "latency": ("latency_s", 1e-9, 10.0),
    "iops": ("reads_per_s", 1.0, 1e12),
    "read": ("read_bytes", 1, 2**30),
    "in-flight": ("reads_in_flight", 1, 2**20),
}
"""Field, and what no device is below or above."""
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
        tier = _with(tier, key, value, text)
    return Level(tier=tier, bytes_held=parse_bytes(size) if given else None)


def _with(tier: Tier, key: str, value: str, text: str) -> Tier:
    field, least, most = _NUMBERS[key]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not least <= number <= most or (field in _WHOLE and number % 1):
        whole = "whole, " if field in _WHOLE else ""
        raise UsageError(
            f"--tier {text}: {key} {value!r} is not what a device can have ({whole}{least:g} to "
            f"{most:g})"
        )
    setting = {field: int(number) if field in _WHOLE else number}
    return replace(tier, source=f"{tier.source}; {field} as given", **setting)  # type: ignore[arg-type]
