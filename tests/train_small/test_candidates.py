"""What a target means: a design, a proxy that budget made, a directory of candidates."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ngscale.design import Design, decoder_config
from ngscale.errors import InputError, UsageError
from ngscale.params import most_active
from ngscale.train_small.arms import make_arms
from ngscale.train_small.candidates import CPU_SHRINK, CUDA_SHRINK, read_target, shrink_to
from ngscale.train_small.config import DEFAULT_DESIGN
from tests.model.small import DESIGN, PLAIN


def saved(path: Path, design: Design | Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    config = decoder_config(design) if isinstance(design, Design) else design
    path.write_text(json.dumps(config))
    return path


def placebo() -> Design:
    return make_arms(DESIGN)[2].design


def test_no_target_is_the_built_in_design() -> None:
    found = read_target(None, CPU_SHRINK)
    assert [one.design for one in found.candidates] == [DEFAULT_DESIGN]
    assert found.tokenizer == "bpe-4096"


def test_a_config_takes_the_tokenizer_beside_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "config.json", DESIGN)
    assert read_target(str(path), CPU_SHRINK).tokenizer == "bpe-64"
    (tmp_path / "tokenizer.json").write_text("{}")
    for target in (path, tmp_path):
        found = read_target(str(target), CPU_SHRINK)
        assert found.tokenizer == str(tmp_path / "tokenizer.json")
        assert [one.design for one in found.candidates] == [DESIGN]


def test_what_budget_wrote_is_its_proxy(tmp_path: Path) -> None:
    saved(tmp_path / "configs" / "design.json", DESIGN)
    saved(tmp_path / "configs" / "parameter-equivalent-moe.json", PLAIN)
    saved(tmp_path / "configs" / "capacity-1.json", placebo())
    (tmp_path / "record.json").write_text("{}")
    for target in (tmp_path, tmp_path / "configs"):
        (candidate,) = read_target(str(target), CPU_SHRINK).candidates
        assert (candidate.name, candidate.design) == ("", DESIGN)


def test_a_directory_holds_candidates_and_says_what_is_none(tmp_path: Path) -> None:
    (spec,) = DESIGN.ngrams
    other = replace(DESIGN, ngrams=(replace(spec, table_rows=spec.table_rows[::-1]),))
    saved(tmp_path / "b.json", DESIGN)
    saved(tmp_path / "a" / "config.json", other)
    saved(tmp_path / "moe.json", PLAIN)
    saved(tmp_path / "placebo.json", placebo())
    saved(tmp_path / "record.json", {"verb": "budget"})
    (tmp_path / "notes.txt").write_text("none")
    found = read_target(str(tmp_path), CPU_SHRINK)
    assert [(one.name, one.design) for one in found.candidates] == [("a", other), ("b", DESIGN)]
    assert [clause.rsplit("/", 1)[1] for clause in found.left_out] == [
        "moe.json: has no n-gram tables",
        "placebo.json: has tables of one row, a placebo",
        "record.json: has no model_type",
    ]


def test_candidates_of_two_vocabularies_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a.json", DESIGN)
    saved(tmp_path / "b.json", DEFAULT_DESIGN)
    with pytest.raises(InputError, match="share one corpus, but have vocab_size 64, 4096"):
        read_target(str(tmp_path), CPU_SHRINK)


def test_a_directory_without_candidates_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "moe.json", PLAIN)
    with pytest.raises(InputError, match="of a design with n-gram tables"):
        read_target(str(tmp_path), CPU_SHRINK)


def test_a_design_without_tables_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "config.json", PLAIN)
    with pytest.raises(UsageError, match="no n-gram tables"):
        read_target(str(path), CPU_SHRINK)


def test_a_model_that_is_too_big_is_shrunk_and_says_what_is_lost() -> None:
    (candidate,) = read_target("longcat-flash-lite", CPU_SHRINK).candidates
    active = most_active(candidate.design)
    assert active == pytest.approx(1_000_000, rel=0.25)
    assert candidate.design.model.vocab_size == 4096
    assert candidate.shrunk is not None
    assert any("zero experts" in sentence for sentence in candidate.shrunk["lost"])
    kept = {one["name"]: one for one in candidate.shrunk["kept"]}
    share = kept["n-gram share of total"]
    assert share["proxy"] == pytest.approx(share["design"], rel=0.05)


def test_an_own_design_is_shrunk_only_above_the_limit(tmp_path: Path) -> None:
    path = saved(tmp_path / "config.json", DEFAULT_DESIGN)
    (whole,) = read_target(str(path), CPU_SHRINK).candidates
    assert whole.shrunk is None
    (small,) = read_target(str(path), shrink_to("cpu", 700_000)).candidates
    assert small.shrunk is not None
    assert shrink_to("cuda", None) == CUDA_SHRINK


def test_what_has_no_proxy_is_refused_by_file() -> None:
    with pytest.raises(InputError, match=r"json: is a \w+ and cannot be shrunk: "):
        read_target("deepseek-v4.1-flash", CPU_SHRINK)
