"""Which table sizes are sound, and the nearest sound ones: number theory only, no corpus.

One list of checks serves the audit and the search for its fix, so a proposed size passes the audit
that asked for it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ngscale.certificate import joint_certificate
from ngscale.lattice import relative_length, shortest_ngram_vector
from ngscale.resonance import gcd_with_base
from ngscale.row_counts import longcat_rows

FaultCode = Literal["base-gcd", "shared-factors", "short-vector", "lattice-score"]

MAX_LATTICE_SCORE = 1.1
"""A tenth more coincidences than an ideal hash: the height from which a peak is called one. Sizes
drawn at random score 0.6-0.75 at order 2, 0.98-1.03 at order 3 and 1.00 at order 4."""
MIN_RELATIVE_LENGTH = 0.2
"""Of M**(1/n). Independent of the rank law, for ids that are not in order of frequency; 6% of
random sizes fall below at order 2, 2% at order 3. On synthetic text 12.231 x V0 (0.34) is like an
ideal hash, 30.1 x V0 (0.15) has five times its collisions."""
UNSHARED = 1
"""g = gcd(V, M) above it leaves a current token M/g rows: on synthetic text g = 20 costs nothing
visible at order 2, g = 256 doubles the collisions at order 5. An odd size next door is free."""

MAX_RATIO_CHANGE = 0.5
"""From a multiple of V half-way to the next: farther away is nothing better."""
RATIO_DECIMALS = (3, 4)
"""Of ratios tried: what a person would write, then finer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A check that a table, or the tables of an order together, do not pass."""

    code: FaultCode
    order: int
    table: int | None
    """Index in the design; None for ``shared-factors``, which is of all tables of the order."""
    value: float
    limit: float


def allowed_gcd(num_tables: int, g: int) -> bool:
    """Whether a gcd with the base passes: 1, or what sizes 2 apart cannot all avoid.

    Of E successive odd sizes one is a multiple of every odd g <= E: of 5, where V = 163,840.
    """
    return g == UNSHARED or (g % 2 == 1 and g <= num_tables)


def design_faults(table_rows: Sequence[int], base: int, orders: Sequence[int]) -> Iterator[Fault]:
    """Every check that fails, the cheap ones first; ``orders[i]`` is the order of table i.

    For the exact polynomial in ``base`` (V): other hashes have no lattice, so nothing to check.

    ``shared-factors``: two n-grams can share all rows of the order only because its sizes have
    common factors; sizes whose product is below V**n can't be helped and are not faulted.
    """
    yield from _arithmetic_faults(table_rows, base, orders)
    from ngscale.lattice_score import lattice_score

    for table, (rows, order) in enumerate(zip(table_rows, orders, strict=True)):
        score = lattice_score(rows, base, order)
        if score > MAX_LATTICE_SCORE:
            yield Fault(
                code="lattice-score",
                order=order,
                table=table,
                value=score,
                limit=MAX_LATTICE_SCORE,
            )


def _arithmetic_faults(
    table_rows: Sequence[int], base: int, orders: Sequence[int]
) -> Iterator[Fault]:
    """All checks but the score."""
    tables = list(zip(range(len(table_rows)), table_rows, orders, strict=True))
    for table, rows, order in tables:
        if not allowed_gcd(len(tables), g := gcd_with_base(rows, base)):
            yield Fault(code="base-gcd", order=order, table=table, value=g, limit=UNSHARED)
    for order in sorted(set(orders)):
        own = tuple(rows for _, rows, n in tables if n == order)
        if (
            math.prod(own) >= base**order
            and not (found := joint_certificate(own, base, order)).jointly_injective
        ):
            yield Fault(
                code="shared-factors",
                order=order,
                table=None,
                value=math.log(found.lcm, base),
                limit=order,
            )
    for table, rows, order in tables:
        length = relative_length(shortest_ngram_vector(rows, base, order), rows)
        if length < MIN_RELATIVE_LENGTH:
            yield Fault(
                code="short-vector",
                order=order,
                table=table,
                value=length,
                limit=MIN_RELATIVE_LENGTH,
            )


def is_sound(table_rows: Sequence[int], base: int, orders: Sequence[int]) -> bool:
    """Whether ``design_faults``, of the same arguments, finds nothing; stops at the first fault."""
    return next(design_faults(table_rows, base, orders), None) is None


def sound_ratio(ratio: float, base: int, orders: Sequence[int]) -> float | None:
    """The nearest ratio whose ``longcat_rows`` pass every check; the lower of two equally near.

    ``ratio`` is rows over V, ``base`` is V, ``orders[i]`` the order of table i. None if there is
    none within ``MAX_RATIO_CHANGE`` at four decimals.
    """
    if is_sound(longcat_rows(ratio, base, len(orders)), base, orders):
        return ratio
    for decimals in RATIO_DECIMALS:
        seen = set()
        for candidate in _ratios(ratio, 10**decimals):
            table_rows = longcat_rows(candidate, base, len(orders))
            if table_rows not in seen and is_sound(table_rows, base, orders):
                return candidate
            seen.add(table_rows)
    return None


def sound_ratios(ratios: Sequence[float], base: int, orders: Sequence[int]) -> list[float | None]:
    """``sound_ratio`` of many, scored together; on the grid of thousandths alone."""
    from ngscale.lattice_score import lattice_scores

    found: list[float | None] = [None] * len(ratios)
    searches = {i: _unfaulted(ratio, base, orders) for i, ratio in enumerate(ratios)}
    while searches:
        tried = {i: next(search, None) for i, search in searches.items()}
        ready = {i: ratio for i, ratio in tried.items() if ratio is not None}
        worst = dict.fromkeys(ready, 0.0)
        for order in sorted(set(orders)):
            own = [table for table, n in enumerate(orders) if n == order]
            sizes = [
                longcat_rows(ratio, base, len(orders))[t] for ratio in ready.values() for t in own
            ]
            scores = lattice_scores(sizes, base, order).reshape(-1, len(own)).max(axis=1)
            for i, score in zip(ready, scores.tolist(), strict=True):
                worst[i] = max(worst[i], score)
        for i, ratio in ready.items():
            if worst[i] <= MAX_LATTICE_SCORE:
                found[i] = ratio
        searches = {i: search for i, search in searches.items() if i in ready and found[i] is None}
    return found


def _unfaulted(ratio: float, base: int, orders: Sequence[int]) -> Iterator[float]:
    """Ratios that pass all checks but the score, the nearest first."""
    for candidate in _ratios(ratio, 10 ** RATIO_DECIMALS[0]):
        table_rows = longcat_rows(candidate, base, len(orders))
        if next(_arithmetic_faults(table_rows, base, orders), None) is None:
            yield candidate


def _ratios(ratio: float, grid: int) -> Iterator[float]:
    """Multiples of 1/grid within reach of ``ratio``, nearest first."""
    centre = round(ratio * grid)
    reach = int(MAX_RATIO_CHANGE * grid)
    # A quotient of integers is the double that the decimal literal is read as.
    near = sorted(
        range(max(1, centre - reach), centre + reach + 1),
        # Rounded: 77.982 and 78.018 are equally near to 78.
        key=lambda k: (round(abs(k - ratio * grid), 6), k),
    )
    return (k / grid for k in near)


def sound_sizes(
    table_rows: Sequence[int], base: int, orders: Sequence[int]
) -> tuple[int, ...] | None:
    """Table by table the nearest size that passes, coprime with those chosen for its order.

    For designs that list their sizes; the lower of two equally near. None where a table has none
    within half of V.
    """
    chosen: list[int] = []
    for rows, order in zip(table_rows, orders, strict=True):
        others = [size for size, n in zip(chosen, orders, strict=False) if n == order]
        found = next(
            (
                size
                for size in _nearest(rows, base // 2)
                if all(math.gcd(size, other) == 1 for other in others)
                and is_sound((size,), base, (order,))
            ),
            None,
        )
        if found is None:
            return None
        chosen.append(found)
    return tuple(chosen)


def _nearest(rows: int, reach: int) -> Iterator[int]:
    yield rows
    for distance in range(1, reach + 1):
        if rows > distance:
            yield rows - distance
        yield rows + distance
