"""Which designs are chosen among, and what a patch makes of a config."""

import json

import pytest

from ngscale import budget, presets
from ngscale.audit.outcome import audit
from ngscale.audit.subject import Subject
from ngscale.budget.limits import Limits
from ngscale.design import design_of
from ngscale.params import total_parameters
from ngscale.plan.choices import MOE, OWN, choose, merged, patch_of
from ngscale.plan.target import read_target
from ngscale.records import RunRecord

LITE = read_target("longcat-flash-lite")
AUDIT = audit(Subject.read(presets.resolve("longcat-flash-lite"), "longcat-flash-lite"))


def budget_record(limits: Limits) -> RunRecord:
    assert LITE.design is not None
    return budget.build(
        LITE.design, target=LITE.name, config_sha256=LITE.sha256, dtype="bf16", limits=limits
    )


def sizes_record(*patches: object, corpus: bool = True) -> RunRecord:
    inputs = {"corpus": {}} if corpus else {}
    results = {"proposals": [{"patch": patch} for patch in patches]}
    return RunRecord(verb="collisions", answer="", inputs=inputs, results=results)


def test_a_patch_is_merged_as_rfc_7396_has_it() -> None:
    """Some of the cases of its appendix A."""
    assert merged({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merged({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merged({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merged({"a": "c"}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}


def test_sizes_that_released_loaders_read_go_first() -> None:
    explicit, ratio = {"ngscale": {"table_rows": [7]}}, {"ngram_vocab_size_ratio": 77.5}
    assert patch_of(AUDIT, sizes_record(explicit, ratio)) == ratio
    assert patch_of(AUDIT, sizes_record(explicit)) == explicit
    smallest = {"ngram_vocab_size_ratio": 77.982}
    assert patch_of(AUDIT, None) == smallest
    assert patch_of(AUDIT, sizes_record(ratio, corpus=False)) == smallest
    assert patch_of(None, sizes_record(ratio)) is None


def test_the_share_in_use_is_a_candidate_at_its_own_total() -> None:
    assert LITE.design is not None
    total = total_parameters(LITE.design)
    limits = Limits(total_parameters=total)
    found = choose(LITE, limits, budget_record(limits), AUDIT, None)
    names = [one.name for one in found.designs]
    assert (names[0], names[-1]) == (OWN, MOE)
    own = found.designs[0]
    assert own.ngram_share == pytest.approx(0.4581, abs=1e-4)  # 31.4B of 68.5B, arXiv:2601.21204
    assert own.config["ngram_vocab_size_ratio"] == 77.982
    assert json.loads(json.dumps(own.config)) == own.config
    for one in found.designs:
        assert total_parameters(design_of(one.config)) == pytest.approx(total, rel=0.001)


def test_another_total_leaves_the_share_in_use_out() -> None:
    limits = Limits(total_parameters=100_000_000_000)
    found = choose(LITE, limits, budget_record(limits), AUDIT, None)
    assert OWN not in [one.name for one in found.designs]
    assert found.notes == ()


def test_a_target_beyond_the_memory_is_no_candidate_and_is_told() -> None:
    assert LITE.design is not None
    limits = Limits(
        total_parameters=total_parameters(LITE.design),
        hbm_bytes=40 * 2**30,
        host_bytes=100 * 2**30,
    )
    found = choose(LITE, limits, budget_record(limits), AUDIT, None)
    assert OWN not in [one.name for one in found.designs]
    assert any(note.startswith(f"No {OWN} candidate") for note in found.notes)
    moe = found.designs[-1]
    assert (moe.name, moe.fits) == (MOE, False)
    assert all(one.fits for one in found.with_tables)
