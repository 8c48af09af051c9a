"""What the built-in design promises."""

import math

from ngscale.params import parameter_groups, total_parameters
from ngscale.train_small.config import DEFAULT_DESIGN


def test_the_default_has_two_fifths_to_half_of_its_parameters_in_tables() -> None:
    groups = parameter_groups(DEFAULT_DESIGN)
    assert 0.4 < groups["ngram_tables"] / total_parameters(DEFAULT_DESIGN) < 0.5


def test_the_default_sizes_have_no_resonance() -> None:
    """By exhaustion: no short (x, y) with x*V0 + y = 0 mod rows (HASHING.md section 11)."""
    spec = DEFAULT_DESIGN.ngram
    assert spec is not None
    for rows in spec.table_rows:
        shortest = min(
            math.hypot(x, min(x * 4096 % rows, rows - x * 4096 % rows)) for x in range(1, 200)
        )
        assert shortest >= math.sqrt(rows)
    assert math.gcd(*spec.table_rows[:2]) == 1
    assert spec.table_rows[0] * spec.table_rows[1] > 4096**2
