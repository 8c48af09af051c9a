"""A sweep held against Fig. 3b of arXiv:2601.21204, statement by statement.

The paper (sec. 3.1): collisions of 2-grams "spike noticeably when the vocabulary size approaches an
integer multiple of the base vocabulary size ... regardless of whether the n-gram vocabulary size is
a prime number"; near a multiple 2-grams suffer far more than higher orders, on it all do. Its
broken axis runs from 0 to 1,600 and from 2,000 to 42,000.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ngscale.collisions.grid import nearest_primes
from ngscale.collisions.peaks import PEAK_EXCESS, QUIET_LENGTH, stands_out
from ngscale.collisions.sweep import Point
from ngscale.resonance import lattice_length

FAR_WORSE = 3.0
"""2-grams are far worse than an order when their excess over 1 is so many times that order's."""
PAPER_BASELINE = 1_600
"""Top of the lower part of the paper's axis."""
PAPER_SPIKES = 42_000
"""Top of the upper part."""

Tables = Mapping[tuple[int, int], Point]
"""By order and size."""


def nearest_primes_of(points: Sequence[Point], base: int, unit: str) -> list[dict[str, Any]]:
    """Every measured integer multiple beside the primes next to it, order by order."""
    tables = {(point.order, point.table_rows): point for point in points}
    found = []
    for (order, rows), point in sorted(tables.items()):
        primes = nearest_primes(rows) if rows % base == 0 else []
        beside = [tables[order, prime] for prime in primes if (order, prime) in tables]
        if len(beside) == 2:
            below, above = beside
            found.append(
                {
                    "name": f"{rows // base} x {unit}",
                    "order": order,
                    "table_rows": rows,
                    "excess_collisions": point.collision_excess,
                    "prime_below": below.table_rows,
                    "offset_below": below.table_rows - rows,
                    "excess_below": below.collision_excess,
                    "prime_above": above.table_rows,
                    "offset_above": above.table_rows - rows,
                    "excess_above": above.collision_excess,
                }
            )
    return found


def figure_3b(
    points: Sequence[Point], primes: Sequence[Mapping[str, Any]], base: int
) -> dict[str, Any] | None:
    """Each statement's verdict and its evidence by order; None for a sweep that cannot check them.

    That needs 2-grams and a higher order, integer multiples with the sizes one row off and the
    nearest primes, and sizes without resonance.
    """
    orders = sorted({point.order for point in points})
    tables = {(point.order, point.table_rows): point for point in points}
    multiples = sorted({entry["table_rows"] for entry in primes})
    quiet = [point for point in points if lattice_length(point.table_rows, base) > QUIET_LENGTH]
    off = [rows + sign for rows in multiples for sign in (-1, 1)]
    is_complete = all((order, rows) in tables for order in orders for rows in off)
    if not multiples or not quiet or not is_complete or orders[0] != 2 or len(orders) < 2:
        return None
    if any(point.distinct < 2 for point in points):
        return None
    beside = [
        rows for e in primes if e["order"] == 2 for rows in (e["prime_below"], e["prime_above"])
    ]
    at_multiples, at_primes, just_off = (
        {str(order): _range(tables[order, rows] for rows in sizes) for order in orders}
        for sizes in (multiples, beside, off)
    )
    worst_off = {order: at["highest"] - 1.0 for order, at in just_off.items() if order != "2"}
    return {
        "num_multiples": len(multiples),
        "num_primes": len(beside),
        "farthest_prime": max(abs(rows - base * round(rows / base)) for rows in beside),
        "spike_at_every_multiple": at_multiples["2"]["spikes"] == len(multiples),
        "spike_at_the_nearest_primes": at_primes["2"]["spikes"] == len(beside),
        "far_worse_than_higher_orders_just_off": just_off["2"]["lowest"] - 1.0
        > FAR_WORSE * max(worst_off.values()),
        "every_order_bad_on_it": all(
            at["spikes"] == len(multiples) for at in at_multiples.values()
        ),
        "every_order_impure_on_it": _all_impure(tables, orders, multiples),
        "at_multiples": at_multiples,
        "at_primes": at_primes,
        "just_off": just_off,
        "baseline": {
            str(order): _collisions(point for point in quiet if point.order == order)
            for order in orders
        },
        "baseline_sizes": len({point.table_rows for point in quiet}),
    }


def _range(points: Iterable[Point]) -> dict[str, Any]:
    """Excess, counts and how many stand out from the ideal hash's noise."""
    points = list(points)
    excess = [point.collision_excess or 0.0 for point in points]
    impurity = [point.impurity_excess for point in points if point.impurity_excess is not None]
    return {
        "spikes": sum(map(stands_out, points)),
        "lowest": min(excess),
        "highest": max(excess),
        "lowest_impurity": min(impurity, default=None),
        "highest_impurity": max(impurity, default=None),
        "collisions": _collisions(points),
    }


def _collisions(points: Iterable[Point]) -> dict[str, float]:
    counts = [point.measured.collisions for point in points]
    return {"min": min(counts), "median": float(np.median(counts)), "max": max(counts)}


def _all_impure(tables: Tables, orders: Sequence[int], multiples: Sequence[int]) -> bool | None:
    """None where the rule does not define purity."""
    excess = [tables[order, rows].impurity_excess for order in orders for rows in multiples]
    known = [value for value in excess if value is not None]
    return all(value > 1.0 + PEAK_EXCESS for value in known) if known else None


def in_words(found: Mapping[str, Any], rule: str) -> str:
    """The statements one by one, each with its verdict and the numbers behind it."""
    on, off, primes = found["at_multiples"], found["just_off"], found["at_primes"]
    higher = [order for order in on if order != "2"]
    spikes, base = on["2"]["collisions"], found["baseline"]["2"]
    statements = [
        "Fig. 3b of arXiv:2601.21204, statement by statement; numbers are collisions over those of "
        "an ideal hash",
        f"(1) Spike at every integer multiple: {_verdict(found['spike_at_every_multiple'])}, "
        f"2-grams at {on['2']['spikes']} of {found['num_multiples']} ({_times(on['2'])})",
        f"(2) Still there at the nearest prime: {_verdict(found['spike_at_the_nearest_primes'])}, "
        f"2-grams at {primes['2']['spikes']} of the {found['num_primes']} primes next to a "
        f"multiple, at most {found['farthest_prime']} rows away ({_times(primes['2'])}; higher "
        f"orders {max(primes[order]['highest'] for order in higher):.2f} at most)",
        "(3) 2-grams far worse than higher orders just off the multiple: "
        f"{_verdict(found['far_worse_than_higher_orders_just_off'])}, one row off "
        f"{_times(off['2'])} against {_by_order(off, higher)} (far worse: an excess over 1 of "
        f"{FAR_WORSE:.0f} times any higher order's)",
        f"(4) All orders bad exactly on it: {_verdict(found['every_order_bad_on_it'])}, "
        f"{_by_order(on, higher)}",
        f"(5) Orders of magnitude: {spikes['min']:,} to {spikes['max']:,} 2-gram collisions on the "
        f"multiples over {base['min']:,} to {base['max']:,} (median {base['median']:,.0f}) at the "
        f"{found['baseline_sizes']} sizes without resonance; the paper's axis ends at "
        f"{PAPER_BASELINE:,} off and at {PAPER_SPIKES:,} on the multiples, "
        + (
            "for 100 sequences of a length it does not print"
            if rule == "per-sequence"
            else "which cannot be a pooled count"
        ),
    ]
    if (impure := found["every_order_impure_on_it"]) is not None:
        worst = ", ".join(f"{at['highest_impurity']:.2f} for {n}" for n, at in on.items())
        statements[4] += f"; by impurity over the ideal hash's: {_verdict(impure)}, up to {worst}"
    return ". ".join(statements) + "."


def _verdict(holds: bool) -> str:
    return "yes" if holds else "no"


def _times(found: Mapping[str, Any]) -> str:
    return f"{found['lowest']:.2f} to {found['highest']:.2f}"


def _by_order(found: Mapping[str, Any], orders: Sequence[str]) -> str:
    return ", ".join(f"{_times(found[order])} for order {order}" for order in orders)
