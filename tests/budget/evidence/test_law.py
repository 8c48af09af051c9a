"""Asking a law: units, ranges, missing quantities."""

from pathlib import Path

import pytest

from ngscale.budget.evidence import loss_difference
from ngscale.budget.evidence.facts import amounts
from ngscale.budget.evidence.law import Amount, Law, evaluate, number
from ngscale.budget.evidence.registry import CURVES, LAWS, RULES
from ngscale.budget.evidence.rule import Rule, judge
from ngscale.errors import UsageError
from tests.budget.evidence.designs import BARE, LITE, without

BY_KEY = {law.key: law for law in LAWS}


def test_a_law_asked_by_the_wrong_unit_is_bad_input_in_one_line() -> None:
    asked = amounts(BARE) | {"training_tokens": Amount(5e11, "characters")}
    with pytest.raises(UsageError) as error:
        evaluate(BY_KEY["joint-moe"], asked)
    assert error.value.exit_code == 2
    assert str(error.value) == (
        "joint-moe: training_tokens 500B is in characters; "
        "arXiv:2502.05172 (Eq. 6, Table 3) takes tokens"
    )


def test_granularity_is_counted_two_ways_that_do_not_mix() -> None:
    """arXiv:2507.17702 sec. 2.1: 2 d_model / d_expert there, 4 d_model / d_expert elsewhere."""
    with pytest.raises(UsageError, match="takes 2 d_model / d_expert"):
        evaluate(BY_KEY["ling"], {"granularity_2d": Amount(8, "4 d_model / d_expert")})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_amount_is_a_finite_number(value: float) -> None:
    with pytest.raises(UsageError, match="tokens: is not a finite number"):
        Amount(value, "tokens")


def test_a_missing_quantity_is_told() -> None:
    outcome = evaluate(BY_KEY["joint-moe"], without(amounts(BARE), "training_tokens"))
    assert outcome.reason == (
        "outside evidence: training_tokens is not given, and "
        "arXiv:2502.05172 (Eq. 6, Table 3) needs it"
    )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.key)
def test_every_end_of_every_range_belongs_to_it_and_the_next_number_does_not(law: Law) -> None:
    middle = {
        item.quantity: Amount(item.low or item.high or 0.0, item.unit) for item in law.validity
    }
    known = all(item.known for item in law.validity)
    assert evaluate(law, middle).applies == known
    for item in law.validity:
        if item.high is None or item.low is None:
            continue
        at_high = middle | {item.quantity: Amount(item.high, item.unit)}
        assert evaluate(law, at_high).applies == known
        beyond = middle | {item.quantity: Amount(item.high * 1.01 + 1, item.unit)}
        assert item.quantity in evaluate(law, beyond).reason
        assert not evaluate(law, beyond).applies


def test_every_law_and_rule_names_source_units_denominator_and_scope() -> None:
    entries: tuple[Law | Rule, ...] = (*LAWS, *RULES)
    for entry in entries:
        assert entry.key
        assert entry.source
        assert entry.units
        assert entry.denominator
        assert entry.scope
    keys = [entry.key for entry in entries]
    assert len(set(keys)) == len(keys)


def test_a_design_without_tables_breaks_no_rule() -> None:
    for rule in RULES:
        finding = judge(rule, BARE)
        assert finding.verdict == "outside evidence"
        assert finding.sentence.endswith("has no tables to judge")


def test_laws_fitted_without_tables_say_nothing_of_a_design_with_them() -> None:
    """EVIDENCE 3: no published law has a fitted memory-parameter term."""
    known = amounts(LITE)
    for law in LAWS:
        if law.units.startswith("nats/token per decade"):
            continue
        assert not evaluate(law, known).applies


@pytest.mark.parametrize("source", ["over-encoding.slope", "qwen.slope"])
def test_a_slope_in_extra_rows_is_no_comparison_at_equal_total(source: str) -> None:
    result = loss_difference(source, LITE)
    assert result.nats is None
    assert "no MoE of equal total" in result.reason


def test_a_source_nobody_knows_is_bad_input() -> None:
    with pytest.raises(UsageError, match="over-encoding: is no source of loss differences"):
        loss_difference("over-encoding", LITE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (256, "256"),
        (31_406_985_216, "31.41B"),
        (0.4581, "0.4581"),
        (6e20, "6e+20"),
        (20e3, "20,000"),
    ],
)
def test_numbers_can_be_recognised(value: float, text: str) -> None:
    assert number(value) == text


def test_the_method_names_every_study(checkout: Path) -> None:
    page = (checkout / "docs" / "method.md").read_text()
    section = page.partition("**Evidence.**")[2].partition("## Probe")[0]
    sources = [law.source for law in LAWS] + [curve.source for curve in CURVES]
    for source in sources:
        assert source.partition(" (")[0].removesuffix(" tech report") in section
