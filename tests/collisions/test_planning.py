import pytest

from ngscale.collisions.planning import MAX_SIZES_IN_FULL, Request, Sequences, make_plan
from ngscale.errors import UsageError
from ngscale.hashing.byte_hashes import Crc32
from ngscale.hashing.longcat import Polynomial
from ngscale.policy import Policy
from ngscale.spec import longcat_spec

V0 = 4_096
POLYNOMIAL = Polynomial(base=V0)


def test_the_default_is_the_grid_around_the_integer_multiples_at_every_order() -> None:
    plan = make_plan(Request(), POLYNOMIAL, vocab_size=V0)
    assert sorted(plan.sizes) == [2, 3, 4, 5]
    assert {31 * V0 - 1, 31 * V0, 31 * V0 + 1} <= set(plan.sizes[2])
    assert plan.num_tables == 4 * len(plan.sizes[2])
    assert plan.metrics == "all"
    assert not plan.together


def test_sizes_are_measured_once_sub_tables_as_often_as_they_are_named() -> None:
    swept = make_plan(Request(sizes=[50, 40, 50]), POLYNOMIAL, vocab_size=V0)
    assert swept.sizes[2] == [40, 50]
    together = make_plan(Request(table_rows=[50, 40, 50]), POLYNOMIAL, vocab_size=V0)
    assert together.sizes[2] == [50, 40, 50]
    assert together.together


def test_a_target_has_its_own_tables_by_order() -> None:
    spec = longcat_spec(
        vocab_size=V0,
        max_order=3,
        num_subtables=2,
        table_rows=(10, 20, 30, 40),
        policy=Policy(),
    )
    plan = make_plan(Request(target=spec), POLYNOMIAL, vocab_size=V0)
    assert plan.sizes == {2: [10, 20], 3: [30, 40]}
    assert plan.together


def test_long_sweeps_measure_sharing_alone_unless_told_otherwise() -> None:
    few = Request(ratio=(2.0, 3.0), step=1)
    many = Request(ratio=(2.0, 4.0), step=1)
    assert MAX_SIZES_IN_FULL < 2 * V0 + 1
    assert make_plan(few, POLYNOMIAL, vocab_size=V0).metrics == "sharing"
    assert make_plan(many, POLYNOMIAL, vocab_size=V0).is_long
    assert make_plan(many, Crc32(), vocab_size=V0).metrics == "all"
    in_full = Request(ratio=(2.0, 4.0), step=1, metrics="all")
    plan = make_plan(in_full, POLYNOMIAL, vocab_size=V0)
    assert plan.metrics == "all"
    assert not plan.is_long
    short = make_plan(Request(metrics="sharing"), POLYNOMIAL, vocab_size=V0)
    assert short.metrics == short.describe(V0)["metrics"] == "sharing"
    assert not short.is_long


def test_metrics_that_a_scheme_or_rule_does_not_have_are_refused() -> None:
    with pytest.raises(UsageError, match="takes all or sharing"):
        Request(metrics="purity")
    by_sequence = Request(metrics="sharing", sequences=Sequences(number=2, length=8))
    for request, scheme in ((Request(metrics="sharing"), Crc32()), (by_sequence, POLYNOMIAL)):
        with pytest.raises(UsageError, match="--scheme longcat and --rule pooled"):
            make_plan(request, scheme, vocab_size=V0)
