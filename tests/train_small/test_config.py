"""The arms: what they hold constant, and what the built-in design promises."""

import math

import pytest

from ngscale.errors import SpecError
from ngscale.params import parameter_groups, total_parameters
from ngscale.train_small.config import DEFAULT_DESIGN, make_arms
from tests.model.small import PLAIN


def test_the_equivalent_moe_has_the_total_and_the_active_parameters_of_the_design() -> None:
    design, moe, _ = make_arms(DEFAULT_DESIGN)
    assert total_parameters(moe.design) == pytest.approx(total_parameters(design.design), rel=0.01)
    assert moe.active_parameters == pytest.approx(design.active_parameters, rel=0.01)


def test_the_placebo_keeps_everything_but_the_rows() -> None:
    design, _, placebo = make_arms(DEFAULT_DESIGN)
    expected = parameter_groups(design.design) | {"ngram_tables": 4 * 32}
    assert parameter_groups(placebo.design) == expected
    assert placebo.active_parameters == design.active_parameters


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


def test_a_design_without_tables_has_nothing_to_compare() -> None:
    with pytest.raises(SpecError, match="no n-gram tables"):
        make_arms(PLAIN)
