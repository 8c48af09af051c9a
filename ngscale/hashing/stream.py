"""The Numba twin of ``definition.py``: rows of long token sequences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt32

from ngscale.hashing.registry import gram_scheme
from ngscale.hashing.scheme import Scheme
from ngscale.policy import Policy
from ngscale.spec import NgramSpec

NO_ROW = -1
"""Stands for a bypassed look-up."""
_CHUNK = 8192
"""Positions hashed at a time: their windows and their rows of a dozen tables stay in cache."""


def row_ids(
    tokens: UInt32[np.ndarray, " T"],
    spec: NgramSpec,
    *,
    segments: Int64[np.ndarray, " T"] | None = None,
    dead: Bool[np.ndarray, " T"] | None = None,
) -> Int64[np.ndarray, "T E"]:
    """Row in every table at every position, ``NO_ROW`` (-1) where the position looks nothing up.

    The Numba twin of ``definition.row_ids_exact``, whose arguments these are.

    Raises:
        SpecError: the spec leaves the fill undecided.
    """
    schemes = [gram_scheme(spec.hash, i) for i in range(spec.num_tables)]
    seen = _see(tokens, spec, segments, dead)
    out = np.empty((len(tokens), spec.num_tables), dtype=np.int64)
    for start in range(0, len(tokens), _CHUNK):
        _hash(seen, spec, schemes, start, out[start : start + _CHUNK])
    _settle(tokens, spec, out)
    return out


class _Seen(NamedTuple):
    """What every position may look at."""

    hashed: UInt32[np.ndarray, " T"]
    """The ids as the hash takes them."""
    starts: Int64[np.ndarray, " T"]
    """The oldest position in reach."""
    ignored: UInt32[np.ndarray, " T"] | None
    """1 for ignored ids, where the policy looks for them in the window."""


def _see(
    tokens: UInt32[np.ndarray, " T"],
    spec: NgramSpec,
    segments: Int64[np.ndarray, " T"] | None,
    dead: Bool[np.ndarray, " T"] | None,
) -> _Seen:
    policy = spec.policy
    ignored = _ignored(tokens, policy)
    hashed = tokens
    if policy.ignored_rule in ("zero", "zero_close"):
        hashed = np.where(ignored, np.uint32(0), tokens)
    if policy.start == "reserved_row" and len(tokens):
        hashed = hashed.copy()
        hashed[0] = spec.table_rows[0]
    closes = np.isin(tokens, np.array(policy.boundary_tokens, dtype=np.uint32))
    if policy.ignored_rule in ("zero_close", "exclude"):
        closes |= ignored
    if policy.zero_id == "closes":
        closes |= hashed == 0
    if segments is not None:
        closes |= segments < 0
        closes[:-1] |= segments[1:] != segments[:-1]
    alone = (hashed == 0) & (policy.zero_id == "closes")
    if policy.dead_tokens == "block" and dead is not None:
        hashed = np.where(dead, np.uint32(policy.decided_fill), hashed)
        alone |= dead
        closes |= dead
    # A closing position is itself out of reach of what follows.
    positions = np.arange(len(tokens), dtype=np.int64)
    after = np.where(closes, positions + 1, 0)
    starts = np.concatenate([np.zeros(1, np.int64), np.maximum.accumulate(after)[:-1]])
    starts = np.where(alone, positions, starts[: len(tokens)])
    last_row = policy.ignored_rule == "last_row"
    return _Seen(hashed, starts, ignored.astype(np.uint32) if last_row else None)


def _ignored(tokens: UInt32[np.ndarray, " T"], policy: Policy) -> Bool[np.ndarray, " T"]:
    found = np.zeros(len(tokens), dtype=np.bool_)
    for first, end in policy.ignored_ranges:
        found |= (tokens >= first) & (tokens < end)
    return found


def _hash(
    seen: _Seen,
    spec: NgramSpec,
    schemes: Sequence[Scheme],
    start: int,
    out: Int64[np.ndarray, "C E"],
) -> None:
    """Rows of ``len(out)`` positions from ``start`` on, by the hash alone."""
    from ngscale.kernels.windows import fill_windows, interleave

    fill = np.uint32(spec.policy.decided_fill)
    windows = np.empty((spec.max_order, len(out)), dtype=np.uint32)
    fill_windows(seen.hashed, seen.starts, start, fill, windows)
    rows = np.empty((spec.num_tables, len(out)), dtype=np.uint32)
    for i, (scheme, order) in enumerate(zip(schemes, spec.table_orders, strict=True)):
        rows[i] = scheme.rows(windows[:order], spec.table_rows[i])
    if seen.ignored is not None:
        skips = np.empty((spec.max_order, len(out)), dtype=np.uint32)
        fill_windows(seen.ignored, seen.starts, start, np.uint32(0), skips)
        for i, order in enumerate(spec.table_orders):
            rows[i, skips[:order].any(axis=0)] = spec.table_rows[i] - 1
    interleave(rows, out)


def _settle(
    tokens: UInt32[np.ndarray, " T"], spec: NgramSpec, out: Int64[np.ndarray, "T E"]
) -> None:
    """Positions whose rows the policy fixes, whatever the hash says."""
    policy = spec.policy
    if policy.at_boundary == "row_zero":
        out[np.isin(tokens, np.array(policy.boundary_tokens, dtype=np.uint32))] = 0
    if policy.start != "fill":
        out[:1] = 0 if policy.start == "row_zero" else spec.table_rows[0]
    if policy.ignored_rule == "exclude":
        out[_ignored(tokens, policy)] = NO_ROW
