"""How published models choose their table sizes. Standard library only.

Each rule reproduces the sizes of the code it names; a float in a rule is part of the format.
"""

import itertools
from collections.abc import Iterator, Sequence

from ngscale.primes import next_prime


def longcat_rows(ratio: float, vocab_size: int, num_tables: int) -> tuple[int, ...]:
    """Rows of table i: ``int(ratio*V + 2i + 1)``, LongCat's ``modeling_longcat_ngram.py``.

    A fractional ratio gives the same sizes only when it is evaluated in this order.
    """
    size = ratio * vocab_size
    return tuple(int(size + 2 * i + 1) for i in range(num_tables))


def marin_rows(base_rows: int, num_tables: int) -> tuple[int, ...]:
    """``base + 2i``: Marin's ``OverEncoding``."""
    return tuple(base_rows + 2 * i for i in range(num_tables))


def consecutive_primes(above: float, count: int) -> tuple[int, ...]:
    """The first ``count`` primes above a size: Nanbeige4.2's ``ngram_mod_force_prime``."""
    return tuple(itertools.islice(_primes_above(int(above)), count))


def qwen_rows(base: int, ple_layer: int, num_tables: int) -> tuple[int, ...]:
    """``num_tables`` primes from ``base`` on, after those of the PLE layers before this one.

    Source: transformers 5.23 ``Qwen4ExpTextNGramEmbedding``: table h of PLE layer l has the
    (l * num_tables + h + 1)-th prime above base - 1.
    """
    first = ple_layer * num_tables
    return tuple(itertools.islice(_primes_above(base - 1), first, first + num_tables))


def engram_rows(
    vocab_sizes: Sequence[int], heads: int, num_layers: int
) -> tuple[tuple[int, ...], ...]:
    """Table sizes of every layer, order-major: the next primes that no table before has.

    Source: ``engram_demo_v1.py``: one pool of used primes for all layers, orders and heads; the
    search restarts at ``vocab_sizes[order - 2] - 1`` for every order.
    """
    used: set[int] = set()
    layers = []
    for _ in range(num_layers):
        rows: list[int] = []
        for size in vocab_sizes:
            fresh = (prime for prime in _primes_above(size - 1) if prime not in used)
            chosen = tuple(itertools.islice(fresh, heads))
            used.update(chosen)
            rows += chosen
        layers.append(tuple(rows))
    return tuple(layers)


def _primes_above(number: int) -> Iterator[int]:
    while True:
        number = next_prime(number)
        yield number
