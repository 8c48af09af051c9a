"""Verdicts and decisions from made-up records: every branch, and none that flatters."""

import pytest

from ngscale.plan.choices import MOE, OWN
from ngscale.plan.decision import changes, decide
from ngscale.plan.verdicts import verdict
from tests.plan.made import PLACEBOS, choice, choices, training_record, verdict_on

BEST = choice("evidence-best", loss=-0.005)
CAREFUL = choice("conservative", loss=-0.002)
BASE = choice(MOE, loss=0.0)


def test_a_design_wins_only_against_its_moe_and_every_placebo() -> None:
    assert verdict(BEST, training_record(200)).stand == "wins"
    for arm in ("equivalent-moe", *PLACEBOS):
        for said in ("worse", "equivalent"):
            assert verdict(BEST, training_record(200, but=arm, said=said)).stand == "fails"
        assert verdict(BEST, training_record(200, but=arm, said="undecided")).stand == "open"


def test_the_base_of_fewer_parameters_decides_nothing() -> None:
    assert verdict(BEST, training_record(200, but="base-moe", said="worse")).stand == "wins"


@pytest.mark.parametrize(("tokens", "seeds"), [(199, 3), (10_000, 2)])
def test_a_smoke_test_is_called_one_and_leaves_all_open(tokens: int, seeds: int) -> None:
    found = verdict(BEST, training_record(tokens, seeds))
    assert (found.stand, str(found.grade)) == ("open", "smoke test")
    assert found.sentence.startswith("Smoke test, concludes nothing (")
    assert "better" not in found.sentence
    assert found.lost == ("The shortcut block.",)


def test_what_was_not_trained_says_why() -> None:
    found = verdict(BEST, None, "torch is not installed")
    assert found.sentence == "Not trained: torch is not installed."
    assert (found.stand, str(found.grade)) == ("open", "arithmetic only")


def test_of_several_winners_the_one_furthest_below_its_moe_is_taken() -> None:
    found = decide(
        choices(BEST, CAREFUL, BASE),
        [verdict_on(BEST.name, "wins", -0.01), verdict_on(CAREFUL.name, "wins", -0.02)],
    )
    assert (found.candidate, str(found.grade)) == (CAREFUL.name, "proxy, decided at 3 seeds")


def test_where_every_candidate_fails_experts_are_chosen() -> None:
    made = [verdict_on(BEST.name, "fails", 0.01), verdict_on(CAREFUL.name, "fails", 0.0)]
    found = decide(choices(BEST, CAREFUL, BASE), made)
    assert (found.candidate, str(found.grade)) == (MOE, "proxy, decided at 3 seeds")
    assert changes(found, choices(BEST, CAREFUL, BASE), made, None)[0].startswith("other text")


def test_an_open_plan_keeps_the_share_that_was_planned_and_tells_the_evidence() -> None:
    own = choice(OWN, loss=-0.001, share=0.458)
    designs = choices(own, BEST, BASE)
    made = [verdict_on(OWN, "open", -0.3), verdict_on(BEST.name, "open")]
    found = decide(designs, made)
    assert (found.candidate, str(found.grade)) == (OWN, "smoke test")
    assert "favours 30.0% (evidence-best, -0.0050 nats against the MoE)" in found.why
    (first, second, last) = changes(found, designs, made, 12.0)
    assert "20 tokens per active parameter (all candidates: about --hours 12 here)" in first
    assert second == "the same for evidence-best, with a larger gain"
    assert "full scale" in last


def test_a_share_that_failed_here_is_not_kept() -> None:
    own = choice(OWN, share=0.458)
    made = [verdict_on(OWN, "fails", 0.1), verdict_on(BEST.name, "open")]
    found = decide(choices(own, BEST, BASE), made)
    assert (found.candidate, str(found.grade)) == (BEST.name, "arithmetic only")


def test_without_tables_in_use_published_evidence_decides_or_experts_are_kept() -> None:
    made = [verdict_on(BEST.name, "open"), verdict_on(CAREFUL.name, "open")]
    assert decide(choices(BEST, CAREFUL, BASE), made).candidate == BEST.name
    unknown = choice("memory-bound")
    found = decide(choices(unknown, BASE), [verdict_on(unknown.name, "open")])
    assert (found.candidate, str(found.grade)) == (MOE, "arithmetic only")
    too_big = choice(MOE, fits=False)
    found = decide(choices(unknown, too_big), [verdict_on(unknown.name, "open")])
    assert found.candidate == unknown.name
