"""What number theory says of every table and every order. No corpus, no judgement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ngscale.certificate import JointCertificate, joint_certificate
from ngscale.lattice import (
    CollisionFamily,
    Vector,
    collision_family,
    relative_length,
    shortest_ngram_vector,
    vector_words,
)
from ngscale.lattice_score import lattice_score
from ngscale.primes import is_prime
from ngscale.resonance import Neighbour, gcd_with_base, nearest_fraction, reachable_rows
from ngscale.spec import NgramSpec
from ngscale.table_sizes import Fault, design_faults


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeFacts:
    """Of a table under an exact polynomial, whose collisions are a lattice."""

    gcd_with_base: int
    reachable_rows_per_token: int
    """Rows that n-grams with one and the same current token can reach."""
    nearest: Neighbour
    score: float
    """Row-traffic coincidences over an ideal hash's, under the rank law (docs/method.md)."""
    vector: Vector
    """The shortest difference of two colliding n-grams; ``vector[s]``: s places back."""
    relative_length: float
    words: str
    family: CollisionFamily
    """N-grams that share a row, with verified examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """One table."""

    index: int
    layer: int | None
    """The layer that reads it; None at the input embedding."""
    order: int
    rows: int
    is_prime: bool
    lattice: LatticeFacts | None
    """None where the hash is no exact polynomial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFacts:
    """The tables of one order of one layer together."""

    layer: int | None
    order: int
    tables: tuple[int, ...]
    pairwise_gcd: tuple[tuple[int, int, int], ...]
    certificate: JointCertificate | None
    """None where the theorem does not hold: XOR and wrapping arithmetic."""


def table_facts(spec: NgramSpec) -> list[TableFacts]:
    """Every table of ``spec``, by index."""
    layer = spec.layers[0] if spec.layers else None
    return [
        TableFacts(
            index=i,
            layer=layer,
            order=order,
            rows=rows,
            is_prime=is_prime(rows),
            lattice=None if spec.hash_base is None else _lattice(rows, spec.hash_base, order),
        )
        for i, (order, rows) in enumerate(zip(spec.table_orders, spec.table_rows, strict=True))
    ]


def _lattice(rows: int, base: int, order: int) -> LatticeFacts:
    vector = shortest_ngram_vector(rows, base, order)
    return LatticeFacts(
        gcd_with_base=gcd_with_base(rows, base),
        reachable_rows_per_token=reachable_rows(rows, base, order),
        nearest=nearest_fraction(rows, base),
        score=lattice_score(rows, base, order),
        vector=vector,
        relative_length=relative_length(vector, rows),
        words=vector_words(vector),
        family=collision_family(vector, rows, base),
    )


def order_facts(spec: NgramSpec) -> list[OrderFacts]:
    """Every order of ``spec`` that has tables."""
    layer = spec.layers[0] if spec.layers else None
    found = []
    for order in spec.orders:
        tables = spec.tables_of(order)
        rows = tuple(spec.table_rows[i] for i in tables)
        certificate = None
        if spec.hash_base is not None:
            certificate = joint_certificate(rows, spec.hash_base, order, spec.vocab_size)
        found.append(
            OrderFacts(
                layer=layer,
                order=order,
                tables=tables,
                pairwise_gcd=_pairwise(rows),
                certificate=certificate,
            )
        )
    return found


def _pairwise(rows: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    return tuple(
        (i, j, math.gcd(rows[i], rows[j]))
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    )


def size_faults(spec: NgramSpec) -> list[Fault]:
    """The checks of the table sizes that fail; none are known where no lattice is."""
    if spec.hash_base is None:
        return []
    return list(design_faults(spec.table_rows, spec.hash_base, spec.table_orders))
