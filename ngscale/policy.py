"""Policy: which ids an n-gram sees at a position. Pure data, stdlib only.

Two implementations of one hash that disagree, disagree here (``docs/method.md``, D1..D14).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from ngscale.errors import SpecError

AtBoundary = Literal["lookback", "row_zero"]
Start = Literal["fill", "row_zero", "reserved_row", "reserved_row_kept"]
IgnoredRule = Literal["ordinary", "zero", "zero_close", "exclude", "last_row"]
ZeroId = Literal["ordinary", "closes"]
RowZero = Literal["row", "zero_vector", "zero_vector_before_modulus"]
Documents = Literal["boundary_tokens", "segment_ids", "none"]
Padding = Literal["hashed", "absent"]
DeadTokens = Literal["ordinary", "block"]

MODES = ("hf", "no_eos", "vllm_neg", "exclude", "invalid", "next", "next_inference")
"""Policies of the LongCat polynomial by the names of ``vectors.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The ids c_0 .. c_(N-1) that the hash of a position gets: c_0 its own, c_s from s back.

    The look-back stops at the start of the sequence, of the document, and at a boundary token: a
    boundary closes its own segment, still seeing its look-back, and what follows does not see
    past it. Where it has stopped, c_s is ``fill``.
    """

    boundary_tokens: tuple[int, ...] = ()
    """Ids that close their own segment (D1); empty: nothing resets."""
    at_boundary: AtBoundary = "lookback"
    """Rows of a boundary token itself (D2): of its n-gram, or row 0 of every table."""
    fill: int | None = 0
    """The id that stands for missing context (D4); None: the config does not decide it."""
    start: Start = "fill"
    """The first position of a sequence (D4): an n-gram of fills; row 0; or the reserved row, whose
    number then also replaces the first token for the position after it (``reserved_row``) or does
    not (``reserved_row_kept``)."""
    ignored_tokens: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of special ids (D5)."""
    ignored_rule: IgnoredRule = "ordinary"
    """What an ignored id does (D5): nothing; reads as id 0 in every n-gram (``zero``), and closes
    its segment too (``zero_close``); stops the look-back and looks nothing up itself
    (``exclude``); sends every n-gram that holds it to the table's last row (``last_row``)."""
    zero_id: ZeroId = "ordinary"
    """Id 0, also one that an ignored id became: an ordinary token, or one that closes its segment
    and sees no context itself."""
    row_zero: RowZero = "row"
    """Row 0 (D9): a row; the zero vector; or the zero vector where the n-gram's number is 0 before
    the modulus."""
    documents: Documents = "boundary_tokens"
    """What separates packed documents (D12): the boundary tokens, segment ids, or nothing."""
    padding: Padding = "hashed"
    """Left padding (D11): its ids are hashed like others, or it never reaches the hash."""
    dead_tokens: DeadTokens = "ordinary"
    """Positions without text, such as images: ordinary ids; or out of sight, with everything older,
    of all that follows, their own n-gram all fill."""

    def __post_init__(self) -> None:
        """Refuse unknown words and rules that contradict each other."""
        for field, kind in _WORDS.items():
            if (value := getattr(self, field)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise SpecError(f"{field} must be one of {known}, got {value!r}")
        if any(token < 0 for token in self.boundary_tokens):
            raise SpecError(f"boundary_tokens must not be negative, got {self.boundary_tokens}")
        if self.fill is not None and self.fill < 0:
            raise SpecError(f"fill must not be negative, got {self.fill}")
        for first, end in self.ignored_tokens:
            if not 0 <= first < end <= 2**32:
                raise SpecError(f"ignored_tokens: {first}:{end} is not a range of ids")
        if self.ignored_rule != "ordinary" and not self.ignored_tokens:
            raise SpecError(f"ignored_rule {self.ignored_rule} needs ignored_tokens")
        if self.at_boundary == "row_zero" and not self.boundary_tokens:
            raise SpecError("at_boundary row_zero needs boundary_tokens")

    def ignores(self, token: int) -> bool:
        """Whether ``token`` is one of the ignored ids."""
        return any(first <= token < end for first, end in self.ignored_tokens)

    @property
    def ignored_ranges(self) -> tuple[tuple[int, int], ...]:
        """``ignored_tokens``, as few disjoint ranges as will do."""
        return merge_ranges(self.ignored_tokens)

    @property
    def decided_fill(self) -> int:
        """``fill``.

        Raises:
            SpecError: it is undecided.
        """
        if self.fill is None:
            raise SpecError(
                "fill is undecided: the config does not say which id stands for missing context"
            )
        return self.fill

    @property
    def resets(self) -> bool:
        """Whether any token closes its segment."""
        return (
            bool(self.boundary_tokens)
            or self.zero_id == "closes"
            or self.ignored_rule in ("zero_close", "exclude")
        )


_WORDS = {
    "at_boundary": AtBoundary,
    "start": Start,
    "ignored_rule": IgnoredRule,
    "zero_id": ZeroId,
    "row_zero": RowZero,
    "documents": Documents,
    "padding": Padding,
    "dead_tokens": DeadTokens,
}


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of ids as few disjoint ones, ascending."""
    merged: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            before = merged.pop()
            first, end = before[0], max(before[1], end)
        merged.append((first, end))
    return tuple(merged)


def parse_ranges(text: str) -> tuple[tuple[int, int], ...] | None:
    """``0:4,36:55``, TokenSpeed's form of half-open ranges, empty or not; None if it is not one."""
    if not re.fullmatch(r"\d{1,10}:\d{1,10}(,\d{1,10}:\d{1,10})*", text, re.ASCII):
        return None
    pairs = (part.split(":") for part in text.split(","))
    return tuple((int(first), int(end)) for first, end in pairs)


def mode_policy(
    mode: str, boundary_token: int | None, ignored_tokens: tuple[tuple[int, int], ...] = ()
) -> Policy:
    """The policy ``mode`` of the LongCat polynomial, one of ``MODES``.

    ``boundary_token`` is the end of sequence, ``ignored_tokens`` are half-open ranges of ids.

    Raises:
        SpecError: an unknown mode, or one that needs a boundary token or ignored ids and has none.
    """
    if mode == "no_eos":
        return Policy(documents="none")
    if mode not in MODES:
        raise SpecError(f"policy {mode!r} is not known; known: {', '.join(MODES)}")
    if boundary_token is None:
        raise SpecError(f"policy {mode} needs an end-of-sequence id (eos_token_id)")
    boundaries = (boundary_token,)
    if mode == "hf":
        return Policy(boundary_tokens=boundaries)
    if mode == "vllm_neg":
        return Policy(boundary_tokens=boundaries, at_boundary="row_zero")
    if not ignored_tokens:
        raise SpecError(f"policy {mode} needs ignored ids (oe_ignored_token_ids)")
    if mode == "exclude":
        return Policy(
            boundary_tokens=boundaries, ignored_tokens=ignored_tokens, ignored_rule="exclude"
        )
    if mode == "invalid":
        return Policy(
            boundary_tokens=boundaries, ignored_tokens=ignored_tokens, ignored_rule="last_row"
        )
    if mode == "next":
        return Policy(
            boundary_tokens=boundaries,
            ignored_tokens=ignored_tokens,
            ignored_rule="zero_close",
            zero_id="closes",
            row_zero="zero_vector",
        )
    return Policy(
        boundary_tokens=boundaries,
        ignored_tokens=ignored_tokens,
        ignored_rule="zero",
        row_zero="zero_vector_before_modulus",
    )
