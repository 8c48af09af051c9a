"""A stage is done once for its inputs, whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ngscale.errors import InputError, NoResultError, ResourceError
from ngscale.plan.ledger import Ledger
from ngscale.plan.stages import Made, Stage, carry_out, load, seconds
from ngscale.records import Report, RunRecord


def stage_of(inputs: Mapping[str, Any], calls: list[str]) -> Stage:
    def make(directory: Path) -> Made:
        calls.append(directory.name)
        record = RunRecord(verb="test", answer="Yes.", inputs=inputs, results={"x": 1 / 3})
        return Made(record=record, report=Report(title="T", answer="Yes.", sections=()))

    return Stage(name="1-test", inputs=inputs, make=make, argv=("test",))


def test_a_finished_stage_is_loaded_as_it_was_returned(tmp_path: Path) -> None:
    calls: list[str] = []
    stage = stage_of({"a": 1}, calls)
    assert load(stage, tmp_path) is None
    made = carry_out(stage, tmp_path)
    assert load(stage_of({"a": 1}, calls), tmp_path) == made
    assert made.results == {"x": 0.333333333333}
    assert calls == [stage.digest]
    assert seconds(stage.directory(tmp_path)) is not None


def test_other_inputs_are_another_stage_and_the_first_stays(tmp_path: Path) -> None:
    told: list[str] = []
    calls: list[str] = []
    for value in (1, 2, 1):
        stage = stage_of({"a": value}, calls)
        Ledger(tmp_path, told.append, dry=False).carry_out("1-test", lambda s=stage: s, unknown="")  # type: ignore[misc]
    assert len(calls) == 2
    assert told[0] == "1-test: begins"
    assert told[1].startswith("1-test: new inputs; what other ones gave stays in ")
    assert told[-1] == "1-test: finished before"


def test_a_stage_without_its_last_file_is_done_again(tmp_path: Path) -> None:
    stage = stage_of({}, [])
    carry_out(stage, tmp_path)
    (stage.directory(tmp_path) / "stage.json").unlink()
    assert load(stage, tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 99}'])
def test_a_damaged_record_is_one_line_that_names_it(tmp_path: Path, content: str) -> None:
    stage = stage_of({}, [])
    carry_out(stage, tmp_path)
    (stage.directory(tmp_path) / "record.json").write_text(content)
    with pytest.raises(InputError, match=r"record\.json: is no record; remove its directory"):
        load(stage, tmp_path)


def test_a_failure_is_kept_with_what_is_then_unknown(tmp_path: Path) -> None:
    def fails() -> Stage:
        raise NoResultError("nothing fits")

    ledger = Ledger(tmp_path, lambda line: None, dry=False)
    assert ledger.carry_out("1-test", fails, unknown="What fits.") is None
    ledger.wait("2-test", unknown="More.")
    assert isinstance(ledger.error, NoResultError)
    first, second = ledger.entries
    assert (first.state, first.why, first.unknown) == ("failed", "nothing fits", "What fits.")
    assert (second.state, second.why) == ("waiting", "comes after 1-test")


def test_running_out_of_memory_is_a_failure_with_its_own_code(tmp_path: Path) -> None:
    def greedy() -> Stage:
        raise MemoryError

    ledger = Ledger(tmp_path, lambda line: None, dry=False)
    ledger.carry_out("1-test", greedy, unknown="")
    assert isinstance(ledger.error, ResourceError)


def test_an_interruption_leaves_all_that_follows_waiting(tmp_path: Path) -> None:
    def interrupted() -> Stage:
        raise KeyboardInterrupt

    def never() -> Stage:
        raise AssertionError("nothing begins after an interruption")

    ledger = Ledger(tmp_path, lambda line: None, dry=False)
    ledger.carry_out("1-test", interrupted, unknown="")
    ledger.carry_out("2-test", never, unknown="")
    assert isinstance(ledger.error, KeyboardInterrupt)
    first, second = ledger.entries
    assert (first.state, first.why) == ("failed", "interrupted")
    assert (second.state, second.why) == ("waiting", "comes after 1-test")


def test_stages_ahead_are_told_in_a_copy(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, lambda line: None, dry=False)
    copy = ledger.ahead(["6-train-own-share"])
    assert [entry.state for entry in copy.entries] == ["to do"]
    assert ledger.entries == []


def test_a_dry_run_reads_nothing_where_nothing_was_ever_done(tmp_path: Path) -> None:
    def costly() -> Stage:
        raise AssertionError("a dry run reads no text")

    ledger = Ledger(tmp_path, lambda line: None, dry=True)
    assert ledger.carry_out("1-test", costly, unknown="") is None
    assert [entry.state for entry in ledger.entries] == ["to do"]
