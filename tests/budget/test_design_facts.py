"""From a config to the facts that evidence is asked about."""

from dataclasses import replace

import pytest
from hypothesis import given

from ngscale import presets
from ngscale.budget.allocation import allocation_json
from ngscale.budget.design_facts import facts_of
from ngscale.budget.evidence import evidence_results
from ngscale.design import Design, read_design
from ngscale.records import dump_json
from tests.designs import decoder_designs

LITE = read_design(presets.resolve("longcat-flash-lite"))


def test_lites_ratio_is_a_range() -> None:
    """EVIDENCE 1.5: 68,562,465,024 over 2,929,953,792 to 4,515,400,704, projections counted."""
    few, most = facts_of(LITE, real_experts="fewest"), facts_of(LITE, real_experts="most")
    assert (few.active_parameters, most.active_parameters) == (2_929_953_792, 4_515_400_704)
    assert few.total_active_ratio == pytest.approx(23.4, abs=0.05)
    assert most.total_active_ratio == pytest.approx(15.2, abs=0.05)
    assert few.ngram_parameters == 31_406_985_216
    assert (few.max_order, few.num_subtables, few.num_shortcut_layers) == (4, 4, 14)
    assert few.table_rows[0] == 10_223_617


@given(decoder_designs())
def test_every_design_with_facts_has_evidence_in_strict_json(design: Design) -> None:
    facts = facts_of(design, real_experts="most", training_tokens=10**9)
    assert facts.sparse_parameters >= facts.ngram_parameters
    assert dump_json(evidence_results(facts))
    assert dump_json(allocation_json(facts))


def test_a_design_without_tables_has_none_of_their_facts() -> None:
    facts = facts_of(replace(LITE, ngrams=()), real_experts="most")
    assert facts.ngram_parameters == 0
    assert facts.table_rows == ()
    assert facts.injection_layers is None
