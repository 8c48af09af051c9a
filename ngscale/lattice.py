"""The n-grams that one table cannot tell apart: a lattice, its short vectors, its families.

Two n-grams share a row of the polynomial hash mod M iff their difference v (v[s] for the token s
places back) has ``sum_s v[s] * V**s = 0 mod M``. These v form a lattice of determinant M, so no
size can do better than a shortest vector of about M**(1/n) (docs/method.md).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ngscale.resonance import shortest_vector

Vector = tuple[int, ...]
"""v[s] belongs to the token s places back; v[0] to the current one."""

_BACK = ("current", "one back", "two back", "three back", "four back")


def ngram_code(ngram: Sequence[int], base: int) -> int:
    """``sum_s c_s * V**s`` of an n-gram as it is read, oldest token first (docs/method.md)."""
    code = 0
    for token in ngram:
        code = code * base + token
    return code


def reduced_basis(rows: int, multipliers: Sequence[int]) -> list[list[int]]:
    """An LLL-reduced basis of ``{v : sum_s v[s] * multipliers[s] = 0 mod rows}``.

    ``multipliers[0]`` must be 1. Exact integers, as in Cohen, A Course in Computational Algebraic
    Number Theory, algorithm 2.6.7, with factor 0.99; sorted by length.
    """
    assert multipliers[0] == 1
    size = len(multipliers)
    basis = [[rows] + [0] * (size - 1)]
    for s in range(1, size):
        row = [-multipliers[s] % rows] + [0] * (size - 1)
        row[s] = 1
        basis.append(row)
    # d[i + 1] is the Gram determinant of the first i + 1 vectors, mu[i][j] = lam[i][j] / d[j + 1].
    d = [1] + [0] * size
    lam = [[0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            u = sum(a * b for a, b in zip(basis[i], basis[j], strict=True))
            for k in range(j):
                u = (d[k + 1] * u - lam[i][k] * lam[j][k]) // d[k]
            if j < i:
                lam[i][j] = u
            else:
                d[i + 1] = u
    k = 1
    while k < size:
        _size_reduce(basis, lam, d, k, k - 1)
        if 100 * (d[k + 1] * d[k - 1] + lam[k][k - 1] ** 2) < 99 * d[k] ** 2:
            _swap(basis, lam, d, k)
            k = max(1, k - 1)
        else:
            for j in range(k - 2, -1, -1):
                _size_reduce(basis, lam, d, k, j)
            k += 1
    return sorted(basis, key=_square)


def _size_reduce(
    basis: list[list[int]], lam: list[list[int]], d: list[int], k: int, j: int
) -> None:
    step = (2 * lam[k][j] + d[j + 1]) // (2 * d[j + 1])
    if step:
        basis[k] = [a - step * b for a, b in zip(basis[k], basis[j], strict=True)]
        for i in range(j):
            lam[k][i] -= step * lam[j][i]
        lam[k][j] -= step * d[j + 1]


def _swap(basis: list[list[int]], lam: list[list[int]], d: list[int], k: int) -> None:
    basis[k], basis[k - 1] = basis[k - 1], basis[k]
    for j in range(k - 1):
        lam[k][j], lam[k - 1][j] = lam[k - 1][j], lam[k][j]
    cross = lam[k][k - 1]
    new = (d[k - 1] * d[k + 1] + cross**2) // d[k]
    for i in range(k + 1, len(basis)):
        old = lam[i][k]
        lam[i][k] = (d[k + 1] * lam[i][k - 1] - cross * old) // d[k]
        lam[i][k - 1] = (new * old + cross * lam[i][k]) // d[k + 1]
    d[k] = new


def vectors_within(basis: Sequence[Sequence[int]], square: int) -> Iterator[Vector]:
    """Every nonzero lattice vector of squared length at most ``square``, one of each v and -v.

    Fincke-Pohst enumeration; quick on a reduced basis. Floats only bound the search (with slack),
    lengths are compared as integers.
    """
    size = len(basis)
    star: list[list[float]] = []
    mu = [[0.0] * size for _ in range(size)]
    for i, vector in enumerate(basis):
        rest = [float(a) for a in vector]
        for j in range(i):
            mu[i][j] = _dot(rest, star[j]) / _dot(star[j], star[j])
            rest = [a - mu[i][j] * b for a, b in zip(rest, star[j], strict=True)]
        star.append(rest)
    lengths = [_dot(s, s) for s in star]
    bound = square * (1 + 1e-9) + 1e-9
    coefficients = [0] * size

    def descend(i: int, left: float) -> Iterator[Vector]:
        if i < 0:
            if any(coefficients):
                v = tuple(
                    sum(c * b[s] for c, b in zip(coefficients, basis, strict=True))
                    for s in range(size)
                )
                if _square(v) <= square and _canonical(v) == v:
                    yield v
            return
        centre = -sum(coefficients[j] * mu[j][i] for j in range(i + 1, size))
        reach = math.sqrt(max(left, 0.0) / lengths[i])
        for c in range(math.ceil(centre - reach - 1e-6), math.floor(centre + reach + 1e-6) + 1):
            coefficients[i] = c
            yield from descend(i - 1, left - (c - centre) ** 2 * lengths[i])
        coefficients[i] = 0

    yield from descend(size - 1, bound)


@lru_cache(maxsize=4096)
def shortest_ngram_vector(rows: int, base: int, order: int) -> Vector:
    """The shortest difference of two n-grams that share a row (v[s] for the token s places back).

    Exact: Lagrange-Gauss for bigrams, LLL and enumeration beyond. The oldest token's nonzero
    component is positive; of several equally short vectors the first in lexical order.
    """
    if order == 2:
        A, B = shortest_vector(rows, base)
        return (B, A)
    basis = reduced_basis(rows, [pow(base, s, rows) if s else 1 for s in range(order)])
    return min(vectors_within(basis, _square(basis[0])), key=lambda v: (_square(v), v))


def relative_length(vector: Vector, rows: int) -> float:
    """Length over rows**(1/n): near 0 is resonant; at most 1.07, 1.12, 1.19, 1.23 for n = 2..5.

    The bounds are the square roots of Hermite's constants.
    """
    return math.sqrt(_square(vector)) / float(rows ** (1 / len(vector)))


def vector_words(vector: Vector) -> str:
    """``tokens 78 ids apart one back collide when the current ids differ by 1``."""
    oldest = max(s for s, difference in enumerate(vector) if difference)
    if oldest == 0:
        return f"current tokens {_ids(vector[0])} apart collide whatever stands before them"
    sign = 1 if vector[oldest] > 0 else -1
    conditions = []
    for s in range(oldest - 1, -1, -1):
        who = "the current ids" if s == 0 else f"the ids {_back(s)}"
        difference = sign * vector[s]
        conditions.append(f"{who} differ by {difference}" if difference else f"{who} are equal")
    lead = f"tokens {_ids(vector[oldest])} apart {_back(oldest)} collide when "
    return lead + " and ".join(conditions)


def _ids(difference: int) -> str:
    return f"{abs(difference)} id{'' if abs(difference) == 1 else 's'}"


def _back(s: int) -> str:
    return _BACK[s] if s < len(_BACK) else f"{s} back"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollidingPair:
    """Two n-grams, oldest token first, in one row."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollisionFamily:
    """n-grams x and x + j*step share a row for every j that keeps all ids in range.

    For a table near p/q of the base the step of its bigrams is (p, q*M - p*V), previous token
    first: (a, b) ~ (a + p*j, b + (q*M - p*V)*j).
    """

    step: tuple[int, ...]
    """Oldest token first, as an n-gram is read."""
    examples: tuple[CollidingPair, ...]
    """Their rows were computed one by one."""

    def sentence(self) -> str:
        """``(a, b) ~ (a + 78j, b + j)``."""
        names = "abcdefgh"[: len(self.step)]
        moved = ", ".join(
            name + _term(difference) for name, difference in zip(names, self.step, strict=True)
        )
        return f"({', '.join(names)}) ~ ({moved})"


def _term(difference: int) -> str:
    if difference == 0:
        return ""
    size = "" if abs(difference) == 1 else str(abs(difference))
    return f" {'+' if difference > 0 else '-'} {size}j"


def collision_family(
    vector: Vector, rows: int, base: int, num_examples: int = 3
) -> CollisionFamily:
    """What a lattice vector means, with example pairs whose rows are computed and equal.

    Example j moves by j*vector where the ids 0..V-1 allow it, else by the vector itself; there
    are none when a component of it is V or more.
    """
    step = vector[::-1]
    examples = []
    for j in range(1, num_examples + 1):
        moved = [j * difference for difference in step]
        if max(map(abs, moved)) >= base:
            moved = list(step)
        if max(map(abs, moved)) >= base:
            break
        # Small ids: frequent tokens, in a tokenizer whose ids are in order of frequency.
        first = tuple(
            min(max(0, -difference) + 100 * j + place, base - 1 - max(0, difference))
            for place, difference in enumerate(moved)
        )
        second = tuple(a + difference for a, difference in zip(first, moved, strict=True))
        row = ngram_code(first, base) % rows
        assert first != second
        assert row == ngram_code(second, base) % rows
        examples.append(CollidingPair(first=first, second=second, row=row))
    return CollisionFamily(step=step, examples=tuple(examples))


def _canonical(vector: Vector) -> Vector:
    for difference in reversed(vector):
        if difference:
            return vector if difference > 0 else tuple(-a for a in vector)
    return vector


def _dot(u: Sequence[float], v: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(u, v, strict=True))


def _square(vector: Sequence[int]) -> int:
    return sum(a * a for a in vector)
