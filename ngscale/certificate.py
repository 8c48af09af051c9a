"""Whether the sub-tables of an order, taken together, tell every two n-grams apart."""

import math
from dataclasses import dataclass
from itertools import combinations

from ngscale.lattice import Vector, ngram_code, reduced_basis, vectors_within


@dataclass(frozen=True, slots=True, kw_only=True)
class JointCertificate:
    """Two different n-grams share all K rows of an order: impossible, or here are two.

    They do iff lcm(M_1..M_K) divides the difference of their codes ``sum_s c_s * V**s``, which is
    below V**n: an lcm of V**n or more is a proof (docs/method.md). The theorem is about exact
    integers and about ids: missing context still equals the token whose id fills it.
    """

    order: int
    jointly_injective: bool
    lcm: int
    witness: tuple[tuple[int, ...], tuple[int, ...]] | None
    """Two n-grams, oldest token first, in one row of every table; None where there are none."""
    tables_needed: int | None
    """Smallest k such that ANY k of the tables have an lcm of at least V**n; None: not even K."""
    pairwise_gcd: tuple[tuple[int, int, int], ...]
    """(i, j, gcd of their rows) for all i < j, numbered within the order."""


def joint_certificate(
    table_rows: tuple[int, ...], base: int, order: int, num_ids: int | None = None
) -> JointCertificate:
    """Prove or refute that the tables of one order identify every n-gram together.

    ``num_ids`` is the number of token ids where it is below the base (a prime base, say).
    """
    lcm = math.lcm(*table_rows)
    vector = None
    if lcm < base**order:
        vector = _vector_in_range(lcm, base, order, base if num_ids is None else num_ids)
    witness = None
    if vector is not None:
        first = tuple(max(0, -a) for a in vector[::-1])
        second = tuple(max(0, a) for a in vector[::-1])
        for rows in table_rows:
            assert (ngram_code(first, base) - ngram_code(second, base)) % rows == 0
        witness = (first, second)
    return JointCertificate(
        order=order,
        jointly_injective=witness is None,
        lcm=lcm,
        witness=witness,
        tables_needed=tables_needed(table_rows, base, order),
        pairwise_gcd=tuple(
            (i, j, math.gcd(table_rows[i], table_rows[j]))
            for i, j in combinations(range(len(table_rows)), 2)
        ),
    )


def _vector_in_range(modulus: int, base: int, order: int, num_ids: int) -> Vector | None:
    """A nonzero v with ``sum v[s] V**s = 0 mod modulus`` and all ``|v[s]| < num_ids``, if any.

    The shortest of those in the ball around that cube: decided, not searched for.
    """
    multipliers = [pow(base, s, modulus) if s else 1 for s in range(order)]
    basis = reduced_basis(modulus, multipliers)
    for vector in basis:
        if max(map(abs, vector)) < num_ids:
            return tuple(vector)
    # Nothing short: few vectors are in reach.
    for found in vectors_within(basis, order * (num_ids - 1) ** 2):
        if max(map(abs, found)) < num_ids:
            return found
    return None


def tables_needed(table_rows: tuple[int, ...], base: int, order: int) -> int | None:
    """Smallest k such that the lcm of ANY k of the tables is at least V**n; None if all fall short.

    One more than the most tables whose lcm is below V**n. Such a set may hold every table that
    divides its lcm, so distinct values of the lcm are searched, not subsets.
    """
    limit = base**order
    seen: set[int] = set()
    open_values = [1]
    most = 0
    while open_values:
        value = open_values.pop()
        most = max(most, sum(value % rows == 0 for rows in table_rows))
        for rows in table_rows:
            joined = math.lcm(value, rows)
            if joined < limit and joined not in seen:
                seen.add(joined)
                open_values.append(joined)
    return most + 1 if most < len(table_rows) else None
