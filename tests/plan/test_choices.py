"""Which designs are chosen among, and what a patch makes of a config."""

import json
from pathlib import Path

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
from ngscale.row_counts import longcat_rows
from tests.plan.small import write_config

LITE = read_target("longcat-flash-lite")
AUDIT = audit(Subject.read(presets.resolve("longcat-flash-lite"), "longcat-flash-lite"))


def budget_record(limits: Limits) -> RunRecord:
    assert LITE.design is not None
    return budget.build(
        LITE.design, target=LITE.name, config_sha256=LITE.sha256, dtype="bf16", limits=limits
    )


def sizes_record(*proposals: tuple[object, tuple[int, ...]], corpus: bool = True) -> RunRecord:
    inputs: dict[str, object] = {"corpus": {}} if corpus else {}
    found = [{"patch": patch, "table_rows": list(rows)} for patch, rows in proposals]
    return RunRecord(verb="collisions", answer="", inputs=inputs, results={"proposals": found})


def test_a_patch_is_merged_as_rfc_7396_has_it() -> None:
    """Some of the cases of its appendix A."""
    assert merged({"a": "b"}, {"a": "c"}) == {"a": "c"}
    assert merged({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merged({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merged({"a": "c"}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}


def test_sizes_that_released_loaders_read_go_first() -> None:
    rows = tuple(range(7, 19))
    explicit = {"ngscale": {"table_rows": list(rows)}}
    ratio = {"ngram_vocab_size_ratio": 77.5}
    of_ratio = ratio, longcat_rows(77.5, 131072, 12)
    assert patch_of(LITE, AUDIT, sizes_record((explicit, rows), of_ratio)) == ratio
    assert patch_of(LITE, AUDIT, sizes_record((explicit, rows))) == explicit
    smallest = {"ngram_vocab_size_ratio": 77.982}
    assert patch_of(LITE, AUDIT, None) == smallest
    assert patch_of(LITE, AUDIT, sizes_record(of_ratio, corpus=False)) == smallest
    assert patch_of(LITE, None, sizes_record(of_ratio)) is None


def test_a_ratio_is_no_patch_of_a_config_that_lists_its_rows(tmp_path: Path) -> None:
    target = read_target(write_config(tmp_path))
    found = audit(Subject.read(target.path, target.name))
    rows = (15_991, 15_993, 15_995, 15_997)
    of_ratio = {"ngram_vocab_size_ratio": 3.904}, longcat_rows(3.904, 4096, 4)
    explicit = {"ngscale": {"table_rows": list(rows)}}
    assert patch_of(target, found, sizes_record(of_ratio, (explicit, rows))) == explicit
    assert patch_of(target, found, sizes_record(of_ratio)) == found.results["patch"]


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
