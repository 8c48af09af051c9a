"""Plain-Python twins of every kernel. Imports nothing of the package."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction


def polynomial_row(gram: Sequence[int], base: int, rows: int) -> int:
    """arXiv:2601.21204 Eq. 2; ``gram[s]`` is the token s places back."""
    return sum(token * base**s for s, token in enumerate(gram)) % rows


def stream_rows(
    tokens: Sequence[int],
    base: int,
    table_rows: Sequence[int],
    orders: Sequence[int],
    boundary: int | None,
) -> list[list[int]]:
    """HF LongCat-Flash-Lite: context beyond the start or past a boundary is 0 (HASHING 3.1)."""
    result = []
    for p in range(len(tokens)):
        closed = [q + 1 for q in range(p) if tokens[q] == boundary]
        start = max(closed, default=0)
        context = [tokens[p - s] if p - s >= start else 0 for s in range(max(orders))]
        result.append(
            [
                polynomial_row(context[:n], base, rows)
                for n, rows in zip(orders, table_rows, strict=True)
            ]
        )
    return result


def distinct_ngrams(documents: Sequence[Sequence[int]], order: int) -> Counter[tuple[int, ...]]:
    """Complete n-grams of each document, newest token first."""
    found: Counter[tuple[int, ...]] = Counter()
    for document in documents:
        for end in range(order - 1, len(document)):
            found[tuple(document[end - s] for s in range(order))] += 1
    return found


def occupancy(row_ids: Sequence[int], counts: Sequence[int]) -> tuple[int, int, Fraction]:
    """(occupied rows, n-grams that share their row, sum of count**2 / traffic of the row)."""
    grams: Counter[int] = Counter(row_ids)
    traffic: Counter[int] = Counter()
    for row, count in zip(row_ids, counts, strict=True):
        traffic[row] += count
    sharing = sum(1 for row in row_ids if grams[row] > 1)
    own = sum(
        (Fraction(c * c, traffic[row]) for row, c in zip(row_ids, counts, strict=True)),
        start=Fraction(0),
    )
    return len(grams), sharing, own
