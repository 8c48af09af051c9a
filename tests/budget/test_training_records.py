"""Reading the user's train-small records."""

import json
from pathlib import Path
from typing import Any

import pytest

from ngscale.budget.training_records import read_training_records
from ngscale.errors import InputError


def document() -> dict[str, Any]:
    """What ``train-small`` writes, as far as it is read here."""
    losses = {"design": [3.0, 3.1, 3.2], "equivalent-moe": [3.1, 3.15, 3.2]}
    return {
        "schema_version": 1,
        "verb": "train-small",
        "inputs": {"corpus": "abc", "tokens": 30_000_000},
        "arms": [
            {
                "name": "design",
                "total_parameters": 5_000_000,
                "active_parameters": 1_000_000,
                "groups": {"ngram_tables": 2_000_000},
            },
            {
                "name": "equivalent-moe",
                "total_parameters": 5_010_000,
                "active_parameters": 990_000,
                "groups": {},
            },
        ],
        "runs": [
            {"arm": arm, "seed": seed, "val_loss_nats": loss}
            for arm, of_arm in losses.items()
            for seed, loss in enumerate(of_arm)
        ],
        "comparisons": [{"baseline": "equivalent-moe", "differences": [-0.1, -0.05, 0.0]}],
    }


def saved(directory: Path, content: object, name: str = "run") -> Path:
    path = directory / name / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_record_gives_its_pair(tmp_path: Path) -> None:
    saved(tmp_path, document(), "2026-11-22-train-small")
    found = read_training_records(tmp_path)
    assert found.left_out == ()
    (pair,) = found.pairs
    assert pair.name == "2026-11-22-train-small"
    assert pair.moe_loss_nats == pytest.approx(3.15)
    assert pair.differences_nats == (-0.1, -0.05, 0.0)
    assert pair.ngram_parameters / pair.total_parameters == 0.4


def test_a_record_of_candidates_gives_a_pair_for_each(tmp_path: Path) -> None:
    one = document()
    parts = {key: one.pop(key) for key in ("arms", "runs", "comparisons")}
    candidates = [{"name": name, **parts} for name in ("wide", "deep")]
    saved(tmp_path, one | {"candidates": candidates}, "both")
    found = read_training_records(tmp_path)
    assert [pair.name for pair in found.pairs] == ["both/wide", "both/deep"]
    assert found.pairs[0].backbone == found.pairs[1].backbone


def test_records_of_other_verbs_are_passed_over(checkout: Path) -> None:
    """The committed reports hold collisions, audits, ... and two smoke tests of training, one in a
    plan, which are told and left out.
    """
    found = read_training_records(checkout / "reports")
    of_plan, alone = found.left_out
    assert of_plan.startswith("2026-11-22-plan-longcat-flash-lite/stages/6-train-own-share/")
    assert of_plan.endswith(": 0.021 training tokens per active parameter, fewer than 20")
    assert alone == (
        "2026-11-22-train-lite-proxy: 0.34 training tokens per active parameter, fewer than 20"
    )
    assert all(pair.name for pair in found.pairs)


def test_too_few_seeds_or_tokens_are_left_out_by_name(tmp_path: Path) -> None:
    two_seeds = document()
    two_seeds["runs"] = [run for run in two_seeds["runs"] if run["seed"] < 2]
    two_seeds["comparisons"][0]["differences"] = [-0.1, -0.05]
    short = document()
    short["inputs"]["tokens"] = 1_000_000
    saved(tmp_path, two_seeds, "a")
    saved(tmp_path, short, "b")
    found = read_training_records(tmp_path)
    assert found.pairs == ()
    assert found.left_out == (
        "a: fewer than 3 seeds (2)",
        "b: 1 training tokens per active parameter, fewer than 20",
    )


def test_records_on_one_backbone_are_one_study(tmp_path: Path) -> None:
    longer = document()
    longer["inputs"]["tokens"] *= 2
    for name, content in (("a", document()), ("b", document()), ("c", longer)):
        saved(tmp_path, content, name)
    first, second, third = read_training_records(tmp_path).pairs
    assert first.backbone == second.backbone != third.backbone


def test_an_undecided_comparison_counts(tmp_path: Path) -> None:
    undecided = document()
    undecided["comparisons"][0]["differences"] = [-0.1, 0.1, 0.0]
    saved(tmp_path, undecided)
    assert len(read_training_records(tmp_path).pairs) == 1


def broken(*keys: Any, value: Any) -> dict[str, Any]:
    damaged = document()
    inner: Any = damaged
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return damaged


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "verb: must be a string, got null"),
        (broken("schema_version", value=2), "schema_version: must be 1, got 2"),
        (broken("inputs", value=None), "inputs: must be an object"),
        (broken("inputs", "tokens", value="many"), "inputs.tokens: must be a whole number"),
        (broken("arms", value={}), "arms: must be a list of objects"),
        (broken("arms", value=[]), "arms: has no design"),
        (
            broken("arms", 0, "groups", "ngram_tables", value=9_000_000),
            "arms[0].total_parameters: is not above groups.ngram_tables",
        ),
        (broken("runs", value=[]), "runs: has none of equivalent-moe"),
        (broken("runs", 3, "val_loss_nats", value=True), "runs[3].val_loss_nats: must be a number"),
        (broken("comparisons", value=[]), "comparisons: has none with equivalent-moe"),
        (
            broken("comparisons", 0, "differences", value=[1, 2]),
            "comparisons[0].differences: must be 3 finite numbers",
        ),
    ],
)
def test_a_damaged_record_is_one_line_that_names_file_and_key(
    tmp_path: Path, content: object, problem: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(InputError) as error:
        read_training_records(tmp_path)
    assert error.value.exit_code == 3
    assert str(error.value).startswith(f"{path}: ")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a directory"):
        read_training_records(tmp_path / "nowhere")
