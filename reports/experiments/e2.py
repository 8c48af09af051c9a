"""E2, collisions and loss: table sizes on and off resonance, at equal parameters within 0.1%.

Resonance is in the ratio of size and base. A size far from every p/q of V0, or on a half of it, has
a quarter of a percent more or fewer rows than 6 x V0; so the base of the hash is moved instead (any
base of at least V0 tells ids apart), and arms that differ in resonance alone have the same rows.
"""

from ngscale.primes import next_prime
from ngscale.spec import NgramSpec, order_major
from ngscale.table_sizes import is_sound
from ngscale.train_small.arms import random_bases
from reports.experiments.scale import ROWS, VOCAB_SIZE, Arm, design_of, tables

OFFSETS = (0, 1, 3, 9)
HALF_BASE = 4_468
"""11/2 of it are 24,574 rows, and no smaller p/q of it is near."""
THIRD_BASE = 4_338
"""17/3 of it are 24,582 rows."""


def arms() -> list[Arm]:
    """One table of bigrams in fine steps; then the coarse ones of N = 4 and of K = 4."""
    return [*_bigram_arms(), *_arms_of(4, 1), *_arms_of(4, 4), *_arms_of(2, 4)]


def clean_base(max_order: int, num_subtables: int, *sizes: int) -> int:
    """The first base from V0 on with which these sizes pass every check of ``ngscale audit``."""
    orders = order_major(max_order, num_subtables)
    return next(b for b in range(VOCAB_SIZE, 2 * VOCAB_SIZE) if is_sound(sizes, b, orders))


def _bigram_arms() -> list[Arm]:
    beside, prime = ROWS + 1, next_prime(ROWS)
    specs = {_offset_name(offset): tables(2, 1, ROWS + offset) for offset in OFFSETS}
    specs |= {
        "prime beside 6 V0": tables(2, 1, prime),
        "11/2 base": tables(2, 1, HALF_BASE * 11 // 2, base=HALF_BASE),
        "17/3 base": tables(2, 1, THIRD_BASE * 17 // 3, base=THIRD_BASE),
        "clean": tables(2, 1, beside, base=clean_base(2, 1, beside)),
        "clean prime": tables(2, 1, prime, base=clean_base(2, 1, prime)),
        "random base": random_bases(tables(2, 1, beside)),
    }
    return [_arm("N2-K1", name, spec) for name, spec in specs.items()]


def _arms_of(max_order: int, num_subtables: int) -> list[Arm]:
    """All on the multiple; LongCat's rule beside it; the same rows, clean, and with random bases."""
    count = (max_order - 1) * num_subtables
    beside = [ROWS + 2 * i + 1 for i in range(count)]
    base = clean_base(max_order, num_subtables, *beside)
    specs = {
        "6 V0": tables(max_order, num_subtables, ROWS),
        "6 V0 + 2i + 1": tables(max_order, num_subtables, beside),
        "clean": tables(max_order, num_subtables, beside, base=base),
        "random base": random_bases(tables(max_order, num_subtables, beside)),
    }
    if num_subtables > 1:
        specs["one clean size"] = tables(max_order, num_subtables, beside[0], base=base)
    return [_arm(f"N{max_order}-K{num_subtables}", name, spec) for name, spec in specs.items()]


def _offset_name(offset: int) -> str:
    return f"6 V0 + {offset}" if offset else "6 V0"


def _arm(shape: str, sizes: str, spec: NgramSpec) -> Arm:
    return Arm(
        name=f"{shape} {sizes}",
        design=design_of(spec),
        facts={"shape": shape, "sizes": sizes},
    )
