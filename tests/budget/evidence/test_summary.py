"""The evidence as JSON and as a report."""

import json

import pytest

from ngscale.budget.evidence import Facts, evidence_json, evidence_results, evidence_section
from ngscale.budget.evidence.disagreements import disagreements
from ngscale.budget.evidence.registry import LAWS, RULES
from ngscale.records import dump_json
from tests.budget.evidence.designs import BARE, LITE, traded


@pytest.mark.parametrize("facts", [LITE, BARE], ids=["lite", "bare"])
def test_every_entry_has_every_key_and_a_value_only_where_it_applies(facts: Facts) -> None:
    entries = evidence_json(facts)
    laws, rules = [law.key for law in LAWS], [rule.key for rule in RULES]
    assert [entry["key"] for entry in entries] == laws + rules
    for entry in entries:
        assert set(entry) == {
            "key", "kind", "source", "standing", "formula", "coefficients", "units",
            "denominator", "scope", "validity", "applies", "verdict", "reason", "value",
        }  # fmt: skip
        if not entry["applies"]:
            assert entry["value"] is None
            assert entry["verdict"] == "outside evidence"
            assert entry["reason"].startswith("outside evidence: ")


def test_the_section_is_made_from_the_record_alone() -> None:
    results = evidence_results(LITE)
    saved = json.loads(dump_json(results))
    assert evidence_section(saved) == evidence_section(json.loads(dump_json(saved)))
    assert [table.name for table in evidence_section(saved).tables] == [
        "loss_differences",
        "rules",
        "laws",
    ]


def test_no_two_studies_share_an_axis() -> None:
    (figure,) = evidence_section(evidence_results(LITE)).figures
    titles = [panel.title for panel in figure.panels]
    assert len(set(titles)) == len(titles) == 4
    for panel in figure.panels:
        assert panel.y_label == "nats/token of this study"
        assert {series.label.partition(" ")[0] for series in panel.series} <= {
            "published",
            "published,",
            "interpolated",
        }
    assert figure.panels[0].series[0].y == [1.7248, 1.7109, 1.7248]
    assert figure.panels[1].series[0].y == [1.202, 1.200, 1.197, 1.201]


def test_the_qwen_warning_is_always_shown() -> None:
    """EVIDENCE 6, item 18."""
    for facts in (LITE, BARE):
        text = " ".join(evidence_section(evidence_results(facts)).paragraphs)
        assert "no clear improvement over the MoE-only baseline" in text


def test_shares_by_different_denominators_are_told_as_one() -> None:
    """0.2 and 0.25 of (68.56B - 2 x 0.4027B - (2.92B - 0.4027B)) over 68.56B: 19.0% and 23.8%."""
    told = disagreements(LITE)[0]
    assert "19.0%-23.8% of this design's total" in told
    assert "45.8% of total and 48.1% of sparse" in told


def test_sources_that_disagree_are_both_named() -> None:
    """At 280M active and a ratio above 30 LongCat's text has the MoE win, Qwen3.8's table 8 not."""
    facts = traded(share_of_total=0.25, ratio=31, active=280_000_000)
    told = [
        sentence for sentence in disagreements(facts) if sentence.startswith("Sources disagree")
    ]
    assert told == [
        "Sources disagree on this design against the equal-total MoE: longcat: the MoE wins; "
        "qwen: tables win."
    ]
    assert not [s for s in disagreements(LITE) if s.startswith("Sources disagree")]
