"""The paper's statements, checked on sweeps made up so that each holds or fails."""

from typing import Any

import pytest

from ngscale.collisions.expected import Expected
from ngscale.collisions.figure_3b import figure_3b, in_words, nearest_primes_of
from ngscale.collisions.metrics import Measured
from ngscale.collisions.sweep import Point
from ngscale.primes import next_prime, previous_prime

V0 = 131_072
ON = 31 * V0
QUIET = 4_282_458
"""Lattice length 0.98."""
IDEAL = 1_000


def point(order: int, rows: int, excess: float, impurity: float | None = None) -> Point:
    """``excess`` times the ideal hash's 1,000 collisions among 100,000 n-grams."""
    return Point(
        order=order,
        table_rows=rows,
        distinct=100_000,
        measured=Measured(
            occupied=100_000 - round(excess * IDEAL),
            collisions=round(excess * IDEAL),
            purity=None if impurity is None else 1 - 0.1 * impurity,
        ),
        expected=Expected(
            occupied=100_000 - IDEAL,
            collisions=IDEAL,
            collisions_sd=10.0,
            purity=None if impurity is None else 0.9,
        ),
    )


def sweep_of(
    *,
    on: tuple[float, float],
    off: tuple[float, float],
    prime: float,
    impurity: float | None = None,
) -> list[Point]:
    """Orders 2 and 3; pairs are by order."""
    beside = [rows for rows in (previous_prime(ON), next_prime(ON)) if rows]
    points = [point(order, ON, on[order - 2], impurity) for order in (2, 3)]
    points += [point(o, ON + sign, off[o - 2], impurity) for o in (2, 3) for sign in (-1, 1)]
    points += [point(2, rows, prime, impurity) for rows in beside]
    points += [point(3, rows, 1.0, impurity) for rows in beside]
    return points + [point(order, QUIET, 0.9, impurity) for order in (2, 3)]


def check(points: list[Point]) -> dict[str, Any]:
    found = figure_3b(points, nearest_primes_of(points, V0, "V0"), V0)
    assert found is not None
    return found


def verdicts(found: dict[str, Any]) -> tuple[bool, bool, bool, bool]:
    return (
        found["spike_at_every_multiple"],
        found["spike_at_the_nearest_primes"],
        found["far_worse_than_higher_orders_just_off"],
        found["every_order_bad_on_it"],
    )


def test_a_sweep_like_the_papers_says_yes_to_all() -> None:
    found = check(sweep_of(on=(50.0, 40.0), off=(20.0, 1.9), prime=7.0))
    assert verdicts(found) == (True, True, True, True)
    assert found["every_order_impure_on_it"] is None
    words = in_words(found, "per-sequence")
    assert words.count(": yes, ") == 4
    assert "50,000 to 50,000 2-gram collisions" in words
    assert "900 to 900 (median 900) at the 1 sizes" in words


@pytest.mark.parametrize(
    ("number", "changed"),
    [
        (0, {"on": (1.05, 40.0)}),
        (1, {"prime": 1.05}),
        (2, {"off": (20.0, 8.0)}),
        (3, {"on": (50.0, 1.05)}),
    ],
)
def test_each_statement_can_fail_alone(number: int, changed: dict[str, Any]) -> None:
    like_the_paper: dict[str, Any] = {"on": (50.0, 40.0), "off": (20.0, 1.9), "prime": 7.0}
    found = verdicts(check(sweep_of(**like_the_paper | changed)))
    assert not found[number]
    assert found[1] == (number != 1)
    assert found[2] == (number != 2)


def test_purity_has_a_verdict_of_its_own() -> None:
    """A full table hides collisions, not impurity."""
    found = check(sweep_of(on=(2.0, 1.04), off=(1.5, 1.0), prime=1.3, impurity=1.8))
    assert verdicts(found)[3] is False
    assert found["every_order_impure_on_it"] is True
    assert "by impurity over the ideal hash's: yes, up to 1.80 for 2, 1.80 for 3" in in_words(
        found, "pooled"
    )


def test_a_sweep_without_the_sizes_or_orders_is_not_judged() -> None:
    points = sweep_of(on=(50.0, 40.0), off=(20.0, 1.9), prime=7.0)
    for lacking in (
        [p for p in points if p.order == 2],
        [p for p in points if p.order == 3],
        [p for p in points if p.table_rows != ON + 1],
        [p for p in points if p.table_rows != previous_prime(ON)],
        [p for p in points if p.table_rows != QUIET],
    ):
        assert figure_3b(lacking, nearest_primes_of(lacking, V0, "V0"), V0) is None


def test_nearest_primes_stand_beside_their_multiple() -> None:
    found = nearest_primes_of(sweep_of(on=(50.0, 40.0), off=(20.0, 1.9), prime=7.0), V0, "V0")
    assert [entry["order"] for entry in found] == [2, 3]
    assert found[0]["name"] == "31 x V0"
    assert (found[0]["offset_below"], found[0]["offset_above"]) == (-15, 5)
    assert found[0]["excess_below"] == found[0]["excess_above"] == 7.0
