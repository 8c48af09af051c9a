"""What a token sequence looks up, and where and why two policies of one hash disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from ngscale.errors import SpecError
from ngscale.hashing.definition import (
    Window,
    averaged_exact,
    read_rows_exact,
    row_ids_exact,
    windows_exact,
)
from ngscale.hashing.stream import NO_ROW, row_ids
from ngscale.policy import Policy
from ngscale.spec import NgramSpec

_SHORT = 4096
"""Up to so many tokens the definition answers before the kernels would be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A sequence, and what stands beside it."""

    ids: tuple[int, ...]
    segments: tuple[int, ...] | None = None
    """The document of every position, negative for padding."""
    dead: tuple[bool, ...] | None = None
    """Positions without text."""

    def beside(self, policy: Policy) -> tuple[Sequence[int] | None, Sequence[bool] | None]:
        """Segments and dead positions, as far as ``policy`` minds them."""
        segments = self.segments if policy.documents == "segment_ids" else None
        return segments, self.dead if policy.dead_tokens == "block" else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookups:
    """The rows of one spec's tables."""

    spec: NgramSpec
    ids: Int64[np.ndarray, "T E"]
    """``NO_ROW`` where the position looks nothing up."""
    zero: Bool[np.ndarray, "T E"]
    """Where a row is looked up and reads as the zero vector."""
    word_alone: Bool[np.ndarray, " T"]
    """Where the word embedding is not averaged with rows."""


def look_up(tokens: Tokens, spec: NgramSpec) -> Lookups:
    """Rows of every position; by the definition, or by its Numba twin where the input is long.

    Raises:
        SpecError: an id is too large to be hashed, or the spec leaves the fill undecided.
    """
    check_ids(tokens.ids, spec)
    segments, dead = tokens.beside(spec.policy)
    shape = (len(tokens.ids), spec.num_tables)
    if len(tokens.ids) <= _SHORT:
        exact = row_ids_exact(tokens.ids, spec, segments=segments, dead=dead)
        flat = [NO_ROW if row is None else row for rows in exact for row in rows]
        ids = np.array(flat, dtype=np.int64).reshape(shape)
    else:
        ids = row_ids(
            np.array(tokens.ids, dtype=np.uint32),
            spec,
            segments=None if segments is None else np.array(segments, dtype=np.int64),
            dead=None if dead is None else np.array(dead, dtype=np.bool_),
        )
    if spec.policy.row_zero == "zero_vector_before_modulus":
        read = read_rows_exact(tokens.ids, spec, segments=segments, dead=dead)
        zero = ~np.array(read, dtype=np.bool_).reshape(shape) & (ids != NO_ROW)
    else:
        zero = (ids == 0) & (spec.policy.row_zero == "zero_vector")
    alone = ~np.array(averaged_exact(tokens.ids, spec), dtype=np.bool_)
    return Lookups(spec=spec, ids=ids, zero=zero, word_alone=alone)


def check_ids(tokens: Sequence[int], spec: NgramSpec) -> None:
    """Refuse ids for which the hash is not defined.

    Raises:
        SpecError: names the id and the bound.
    """
    if tokens and max(tokens) > spec.largest_id:
        raise SpecError(f"token {max(tokens)} is too large to be hashed: {spec.largest_id} at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A position at which two policies look up something else."""

    position: int
    tables: tuple[int, ...]
    reasons: tuple[str, ...]


class _Side(NamedTuple):
    """One of two policies."""

    name: str
    spec: NgramSpec
    found: Lookups
    windows: list[Window]


def changes(tokens: Tokens, one: Lookups, two: Lookups, names: tuple[str, str]) -> list[Change]:
    """Every position and table where two policies for the same tables differ, and why."""
    differ = (one.ids != two.ids) | (one.zero != two.zero)
    sides = _side(tokens, names[0], one), _side(tokens, names[1], two)
    return [
        Change(
            position=p,
            tables=tuple(np.flatnonzero(differ[p]).tolist()),
            reasons=tuple(dict.fromkeys(_reasons(tokens, p, *sides))),
        )
        for p in np.flatnonzero(differ.any(axis=1)).tolist()
    ]


def _side(tokens: Tokens, name: str, found: Lookups) -> _Side:
    segments, dead = tokens.beside(found.spec.policy)
    windows = windows_exact(tokens.ids, found.spec, segments=segments, dead=dead)
    return _Side(name, found.spec, found, windows)


def _reasons(tokens: Tokens, p: int, one: _Side, two: _Side) -> list[str]:
    """Why position p differs, in words."""
    spec = one.spec
    moved = one.found.ids[p] != two.found.ids[p]
    reasons = []
    for order in sorted({spec.table_orders[i] for i in np.flatnonzero(moved)}):
        fixed = [line for side in (one, two) for line in _fixed(tokens, p, side, order)]
        reasons += fixed or _window_reasons(tokens, p, one, two, order)
    zeroed = one.found.zero[p] != two.found.zero[p]
    if (zeroed & ~moved).any():
        reasons += [
            f"row 0: {side.name} reads it as the zero vector"
            for side in (one, two)
            if (side.found.zero[p] & zeroed).any()
        ]
    return reasons


def _fixed(tokens: Tokens, p: int, side: _Side, order: int) -> list[str]:
    """The rule that gives position p its rows whatever the hash says, if one does."""
    policy, token = side.spec.policy, tokens.ids[p]
    if policy.ignored_rule == "exclude" and policy.ignores(token):
        return [f"ignored id {token} at position {p}: {side.name} looks nothing up"]
    if p == 0 and policy.start != "fill":
        row = "row 0" if policy.start == "row_zero" else "the reserved row"
        return [f"position 0: {side.name} reads {row}"]
    if policy.at_boundary == "row_zero" and token in policy.boundary_tokens:
        return [f"EOS (id {token}) at position {p}: {side.name} reads row 0 of every table"]
    ignored = side.windows[p].ignored[:order]
    if policy.ignored_rule == "last_row" and any(ignored):
        q = p - ignored.index(True)
        return [f"ignored id {tokens.ids[q]} at position {q}: {side.name} reads the last row"]
    return []


def _window_reasons(tokens: Tokens, p: int, one: _Side, two: _Side, order: int) -> list[str]:
    """Why the n-gram of position p is not the same, from the newest token back."""
    reasons = []
    near, far = sorted((one, two), key=lambda side: side.windows[p].reach)
    reach = near.windows[p].reach
    for s in range(order):
        ids = near.windows[p].ids[s], far.windows[p].ids[s]
        if ids[0] == ids[1]:
            continue
        if s <= reach:
            reasons += [
                f"{_called(tokens, side, p - s)}: {side.name} hashes it as id {hashed}"
                for side, hashed in zip((near, far), ids, strict=True)
                if hashed != tokens.ids[p - s]
            ]
        elif s <= far.windows[p].reach:
            reasons.append(_stop(tokens, p, near, far))
        else:
            fills = [f"id {side.spec.policy.fill} in {side.name}" for side in (one, two)]
            reasons.append(f"missing context is {', '.join(fills)}")
    return reasons


def _stop(tokens: Tokens, p: int, near: _Side, far: _Side) -> str:
    """Why ``near`` sees less than ``far`` from position p."""
    policy, window = near.spec.policy, near.windows[p]
    alone = policy.zero_id == "closes" and window.ids[0] == 0
    if window.reach == 0 and (alone or (policy.dead_tokens == "block" and _is_dead(tokens, p))):
        return f"{_called(tokens, near, p)}: {near.name} gives it no context"
    q = p - window.reach - 1
    segments = tokens.beside(policy)[0]
    if segments is not None and segments[q] != segments[q + 1]:
        return f"the document that ends at position {q}: {far.name} sees past its end"
    return f"{_called(tokens, near, q)}: {far.name} sees past it"


def _called(tokens: Tokens, side: _Side, q: int) -> str:
    """Position q by what the policy minds about it."""
    policy, token = side.spec.policy, tokens.ids[q]
    if policy.dead_tokens == "block" and _is_dead(tokens, q):
        return f"position {q} without text"
    if token in policy.boundary_tokens:
        return f"EOS (id {token}) at position {q}"
    if policy.ignored_rule != "ordinary" and policy.ignores(token):
        return f"ignored id {token} at position {q}"
    return f"id {token} at position {q}"


def _is_dead(tokens: Tokens, q: int) -> bool:
    return tokens.dead is not None and tokens.dead[q]
