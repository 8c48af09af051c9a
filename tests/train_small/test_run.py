"""All arms over seeds: the record, resuming by cell, and the refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ngscale.errors import InputError, ResourceError, UsageError
from ngscale.model.checkpoint import load_decoder
from ngscale.records import dump_json
from ngscale.train_small import run as run_module
from ngscale.train_small.candidates import Candidate
from ngscale.train_small.cells import CellStore
from ngscale.train_small.config import Arm
from ngscale.train_small.loop import OutOfTimeError, RunResult, train
from ngscale.train_small.plan import ArmCost, plan_report
from ngscale.train_small.run import (
    bits_per_byte,
    make_blocks,
    plan_job,
    planned,
    run_job,
)
from ngscale.train_small.summary import build_report
from ngscale.train_small.trainer import Trainer
from tests.model.small import DESIGN, SPEC
from tests.train_small.small import request, stream, train_small


def test_the_record_has_every_arm_run_and_comparison() -> None:
    record = train_small(request(num_seeds=3), CellStore(None))
    document = json.loads(dump_json(record.document()))
    names = ["design", "equivalent-moe", "capacity-1", "unigram-tables", "base-moe"]
    assert [arm["name"] for arm in document["arms"]] == names
    assert [(run["seed"], run["arm"]) for run in document["runs"]] == [
        (seed, name) for seed in range(3) for name in names
    ]
    assert {run["tokens"] for run in document["runs"]} == {640}
    for arm in document["arms"]:
        assert sum(arm["groups"].values()) == arm["total_parameters"]
    moe = document["comparisons"][0]
    losses = {(run["arm"], run["seed"]): run["val_loss_nats"] for run in document["runs"]}
    expected = [losses["design", seed] - losses["equivalent-moe", seed] for seed in range(3)]
    assert moe["differences"] == pytest.approx(expected, abs=1e-9)
    assert not document["verdict"]["conclusive"]
    assert document["answer"].startswith("Smoke test, cannot conclude (")
    report = build_report(record)
    assert report.answer == record.answer
    tables = {table.name: table for table in report.tables}
    assert next(iter(tables)) == "comparisons"
    assert {row["seen"] for row in tables["seen"].rows} == {"0", "1-9", "10-99", "100+"}
    of_design = [row for row in tables["table_use"].rows if row["arm"] == "design"]
    assert [row["num_rows"] for row in of_design] == [157, 163, 167, 169]
    assert all(0 < row["touched_rows"] <= row["num_rows"] for row in of_design)
    assert [row["num_rows"] for row in tables["table_use"].rows if row["arm"] == "capacity-1"] == [
        1
    ] * 4
    assert {row["arm"] for row in tables["layer_loads"].rows} == set(names)
    assert list(report.configs) == ["design"]


def test_the_same_inputs_give_the_same_bytes() -> None:
    first, second = (train_small(request(), CellStore(None)) for _ in range(2))
    assert dump_json(first.document()) == dump_json(second.document())


def test_a_finished_cell_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_small(request(), CellStore(tmp_path))
    for arm in ("design", "equivalent-moe", "capacity-1"):
        load_decoder(tmp_path / "runs" / f"{arm}-seed0")

    trained: list[tuple[str, int]] = []

    def counting(trainer: Trainer, **options: Any) -> RunResult:
        trained.append((trainer.arm.name, trainer.seed))
        return train(trainer, **options)

    monkeypatch.setattr(run_module, "train", counting)
    again = train_small(request(), CellStore(tmp_path))
    assert trained == []
    assert dump_json(again.document()) == dump_json(first.document())

    (tmp_path / "runs" / "design-seed0" / "run.json").unlink()  # as if it had been cut short
    train_small(request(num_seeds=2), CellStore(tmp_path))
    assert trained[0] == ("design", 0)
    assert [cell for cell in trained if cell[1] == 0] == [("design", 0)]


def test_a_cell_from_other_inputs_is_refused_by_name(tmp_path: Path) -> None:
    train_small(request(), CellStore(tmp_path))
    with pytest.raises(InputError, match=r"run\.json: was made with another tokens; choose"):
        train_small(request(tokens=1280), CellStore(tmp_path))


@pytest.fixture
def known_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every arm costs 4.8 s a step on paper: 0.1 hours hold 12 steps, and take a second."""
    cost = ArmCost(setup_s=0.0, step_s=4.8, eval_s=0.0)
    monkeypatch.setattr(run_module, "measure", lambda *_, **__: cost)


def test_a_plan_from_other_inputs_is_refused_and_kept(tmp_path: Path, known_costs: None) -> None:
    train_small(request(tokens=None), CellStore(tmp_path))
    before = (tmp_path / "plan.json").read_bytes()
    with pytest.raises(InputError, match=r"plan\.json: was made with another num_seeds; choose"):
        train_small(request(tokens=None, num_seeds=2), CellStore(tmp_path))
    assert (tmp_path / "plan.json").read_bytes() == before


def test_hours_give_every_run_the_same_tokens_and_keep_them(
    tmp_path: Path, known_costs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.8 * 360 s / (5 arms * 4.8 s) = 12 steps of 64 tokens."""
    first = train_small(request(tokens=None), CellStore(tmp_path))
    assert first.inputs["hours"] == 0.1
    assert 11 * 64 <= first.inputs["tokens"] <= 12 * 64  # the set-up takes its time too
    monkeypatch.setattr(
        run_module, "measure", lambda *_, **__: ArmCost(setup_s=0.0, step_s=2.4, eval_s=0.0)
    )
    again = train_small(request(tokens=None), CellStore(tmp_path))
    assert dump_json(again.document()) == dump_json(first.document())


def test_a_seed_that_the_time_cuts_short_is_left_out(
    known_costs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(trainer: Trainer, **options: Any) -> RunResult:
        if (trainer.seed, trainer.arm.name) == (1, "capacity-1"):
            raise OutOfTimeError
        return train(trainer, **options)

    monkeypatch.setattr(run_module, "train", late)
    record = train_small(request(tokens=None, num_seeds=2), CellStore(None))
    assert record.inputs["seeds"] == [0]
    assert {run["seed"] for run in record.results["runs"]} == {0}
    assert "fewer than 3 seeds (1)" in record.answer


def test_no_finished_seed_is_an_error(known_costs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(trainer: Trainer, **_: Any) -> RunResult:
        raise OutOfTimeError

    monkeypatch.setattr(run_module, "train", late)
    with pytest.raises(ResourceError, match=r"0\.1 hours passed before one seed"):
        train_small(request(tokens=None), CellStore(None))


def test_a_time_that_holds_nothing_is_an_error() -> None:
    with pytest.raises(ResourceError, match="hours"):
        train_small(request(tokens=None, hours=1e-6), CellStore(None))


def test_tokens_below_one_step_are_refused() -> None:
    with pytest.raises(UsageError, match="--tokens 63: one step takes 64"):
        train_small(request(tokens=63), CellStore(None))


def test_a_corpus_with_more_ids_than_the_design_is_refused() -> None:
    wide = replace(request(), stream=replace(stream(), vocab_size=65))
    with pytest.raises(InputError, match="the corpus has 65 ids, the design's vocab_size is 64"):
        make_blocks(wide)


def test_bits_per_byte_by_hand() -> None:
    """2 ln 2 nats per token, 4 bytes per token: half a bit per byte."""
    corpus = stream()
    assert bits_per_byte(1.3862943611198906, corpus) == pytest.approx(0.5)
    assert bits_per_byte(1.0, replace(corpus, num_bytes=0)) is None


def test_cuda_is_refused_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("torch sees a CUDA device")
    with pytest.raises(UsageError, match="--device cuda"):
        train_small(replace(request(), device="cuda"), CellStore(None))


def test_an_arm_knows_its_active_parameters() -> None:
    assert Arm(name="design", design=DESIGN).active_parameters > 0


OTHER_ORDER = replace(SPEC, table_rows=SPEC.table_rows[::-1])
CANDIDATES = (
    Candidate(name="small", design=DESIGN),
    Candidate(
        name="small.er",
        design=replace(DESIGN, ngrams=(OTHER_ORDER,)),
    ),
)


def test_every_candidate_has_a_row_of_its_own(tmp_path: Path) -> None:
    asked = replace(request(num_seeds=2), candidates=CANDIDATES)
    record = train_small(asked, CellStore(tmp_path))
    document = json.loads(dump_json(record.document()))
    assert [one["name"] for one in document["candidates"]] == ["small", "small.er"]
    for one in document["candidates"]:
        assert [arm["name"] for arm in one["arms"]] == ["design", "equivalent-moe"]
        assert [item["baseline"] for item in one["comparisons"]] == ["equivalent-moe"]
        assert len(one["runs"]) == 4
    assert (tmp_path / "runs" / "small.er" / "design-seed1" / "run.json").is_file()
    report = build_report(record)
    assert [row["arm"] for row in report.tables[0].rows] == [
        "small: equivalent-moe",
        "small.er: equivalent-moe",
    ]
    assert list(report.configs) == ["small", "small.er"]
    names = [table.name for table in report.tables]
    assert len(set(names)) == len(names)


def test_a_pilot_tells_the_seeds_and_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_MAX_PLANNED_SEEDS", 3)
    asked = replace(request(), num_seeds=None, margin=1e-6)
    record = train_small(asked, CellStore(tmp_path))
    assert record.inputs["seeds"] == [2, 3, 4]
    pilot = record.results["pilot"]
    assert pilot["needed"] > 1000
    assert pilot["num_seeds"] == 3
    monkeypatch.setattr(run_module, "_MAX_PLANNED_SEEDS", 4)
    again = train_small(asked, CellStore(tmp_path))  # what was settled stays
    assert dump_json(again.document()) == dump_json(record.document())


def test_a_plan_has_time_and_memory_of_every_arm_and_trains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "train", None)
    record = planned(plan_job(request(num_seeds=3), CellStore(None)))
    assert record.answer.startswith("plan: 5 arms x 3 seeds x 640 tokens (10 steps, ")
    for row in plan_report(record).tables[0].rows:
        assert row["memory_bytes"] > 2**20
        assert row["all_runs_s"] == pytest.approx(3 * row["run_s"])


def test_speeds_are_told_apart_from_the_record() -> None:
    record, speeds = run_job(plan_job(request(), CellStore(None)))
    assert set(speeds) == {arm["name"] for arm in record.results["arms"]}
    assert min(speeds.values()) > 0
    assert "tokens_per_s" not in dump_json(record.document())


def test_the_default_time_is_that_of_the_device(known_costs: None) -> None:
    job = plan_job(replace(request(tokens=None), hours=None), CellStore(None))
    assert job.hours == (0.15 if job.device.type == "cpu" else 2)
