"""The definition of a row id, in Python integers; the twins are held to it."""

from collections.abc import Sequence
from typing import NamedTuple

from ngscale.hashing.registry import gram_scheme
from ngscale.spec import NgramSpec


class Window(NamedTuple):
    """What the hash of one position gets."""

    ids: list[int]
    """c_0 .. c_(N-1)."""
    ignored: list[bool]
    """Which of them are ignored ids."""
    reach: int
    """How many places back it sees; what lies further is the fill."""


def windows_exact(
    tokens: Sequence[int],
    spec: NgramSpec,
    *,
    segments: Sequence[int] | None = None,
    dead: Sequence[bool] | None = None,
) -> list[Window]:
    """The look-back of every position, see ``Policy``.

    ``segments`` numbers the documents of a packed sequence, negative for padding; ``dead`` marks
    positions without text.

    Raises:
        SpecError: the spec leaves the fill undecided.
    """
    policy = spec.policy
    fill = policy.decided_fill
    ignored = [policy.ignored_rule != "ordinary" and policy.ignores(t) for t in tokens]
    to_zero = policy.ignored_rule in ("zero", "zero_close")
    hashed = [0 if to_zero and skip else t for t, skip in zip(tokens, ignored, strict=True)]
    if policy.start == "reserved_row":
        hashed[:1] = spec.table_rows[: len(hashed)]

    blocks = [False] * len(tokens)
    if policy.dead_tokens == "block" and dead is not None:
        blocks = list(dead)
    hashed = [fill if blocked else t for t, blocked in zip(hashed, blocks, strict=True)]

    def ends(q: int, p: int) -> bool:
        """Whether the look-back from p stops at q."""
        return (
            tokens[q] in policy.boundary_tokens
            or (policy.zero_id == "closes" and hashed[q] == 0)
            or (policy.ignored_rule in ("zero_close", "exclude") and ignored[q])
            or (segments is not None and (segments[q] != segments[p] or segments[q] < 0))
            or blocks[q]
        )

    windows = []
    for p in range(len(tokens)):
        sees = not blocks[p] and not (policy.zero_id == "closes" and hashed[p] == 0)
        ids, skipped, reach = [hashed[p]], [ignored[p]], 0
        for q in range(p - 1, p - spec.max_order, -1):
            sees = sees and q >= 0 and not ends(q, p)
            ids.append(hashed[q] if sees else fill)
            skipped.append(sees and ignored[q])
            reach += sees
        windows.append(Window(ids, skipped, reach))
    return windows


def row_ids_exact(
    tokens: Sequence[int],
    spec: NgramSpec,
    *,
    segments: Sequence[int] | None = None,
    dead: Sequence[bool] | None = None,
) -> list[list[int | None]]:
    """Row in every table at every position, T lists of E; None where a position looks nothing up.

    Rows count from 0 in each table. ``segments`` and ``dead`` (T each) as in ``windows_exact``: the
    documents of a packed sequence by number, negative for padding; positions without text. Ids up
    to ``spec.largest_id`` are exact; that is not checked here.

    Raises:
        SpecError: the spec leaves the fill undecided.
    """
    policy = spec.policy
    schemes = [gram_scheme(spec.hash, i) for i in range(spec.num_tables)]
    windows = windows_exact(tokens, spec, segments=segments, dead=dead)

    def row(p: int, window: Window, i: int) -> int | None:
        order, rows = spec.table_orders[i], spec.table_rows[i]
        if policy.ignored_rule == "exclude" and window.ignored[0]:
            return None
        if p == 0 and policy.start != "fill":
            return 0 if policy.start == "row_zero" else rows
        if policy.at_boundary == "row_zero" and tokens[p] in policy.boundary_tokens:
            return 0
        if policy.ignored_rule == "last_row" and any(window.ignored[:order]):
            return rows - 1
        return schemes[i].row_exact(window.ids[:order], rows)

    return [[row(p, window, i) for i in range(spec.num_tables)] for p, window in enumerate(windows)]


def read_rows_exact(
    tokens: Sequence[int],
    spec: NgramSpec,
    *,
    segments: Sequence[int] | None = None,
    dead: Sequence[bool] | None = None,
) -> list[list[bool]]:
    """Which looked-up rows are read as stored; the others read as the zero vector (D5, D9).

    T lists of E; arguments as of ``row_ids_exact``.

    Raises:
        SpecError: the spec leaves the fill undecided.
    """
    ids = row_ids_exact(tokens, spec, segments=segments, dead=dead)
    if spec.policy.row_zero == "zero_vector_before_modulus":
        windows = windows_exact(tokens, spec, segments=segments, dead=dead)
        return [
            [
                row is not None and any(window.ids[:n])
                for row, n in zip(rows, spec.table_orders, strict=True)
            ]
            for rows, window in zip(ids, windows, strict=True)
        ]
    skipped = (None,) if spec.policy.row_zero == "row" else (None, 0)
    return [[row not in skipped for row in rows] for rows in ids]


def averaged_exact(tokens: Sequence[int], spec: NgramSpec) -> list[bool]:
    """Positions at which word embedding and rows are averaged; elsewhere the word stands alone.

    That is at ignored ids that became 0 or look nothing up; in LongCat-Next-inference at id 0 too.
    """
    policy = spec.policy
    zeroed = policy.ignored_rule in ("zero", "zero_close", "exclude")
    id_0_alone = policy.row_zero == "zero_vector_before_modulus"
    return [
        not (zeroed and policy.ignores(token)) and not (id_0_alone and token == 0)
        for token in tokens
    ]
