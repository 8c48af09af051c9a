"""log.jsonl: whole lines, in order, taken up where a checkpoint is; trackio by its extra."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ngscale.errors import MissingExtraError
from ngscale.train_small.run_log import RunLog, Trackio


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_later_and_torn_lines_go_when_a_run_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"
    log = RunLog(path)
    for step in (10, 20, 30):
        log.write(step, {"train_loss_nats": step / 8})
    path.write_bytes(path.read_bytes() + b'{"step": 20, "trai')
    again = RunLog(path)
    again.resume(20)
    assert [line["step"] for line in lines(path)] == [10, 20]
    again.write(30, {"train_loss_nats": 0.1})
    assert [(line["step"], line["train_loss_nats"]) for line in lines(path)] == [
        (10, 1.25),
        (20, 2.5),
        (30, 0.1),
    ]
    assert all(line["elapsed_s"] >= 0 for line in lines(path))


def test_a_run_from_the_start_begins_its_log_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 5}\n[]\n{"other": 1}\n')
    RunLog(path).resume(0)
    assert path.read_text() == ""


def test_trackio_gets_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    fake = ModuleType("trackio")

    def init(**options: Any) -> SimpleNamespace:
        sys.stdout.write("* Created new run\n")  # as trackio does
        calls.append(options)
        return SimpleNamespace(
            log=lambda values, step: calls.append((step, values)),
            finish=lambda: calls.append("finish"),
        )

    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    log = RunLog(tmp_path / "log.jsonl", Trackio("project", "design-seed0", {"tokens": 64}))
    log.write(3, {"val_loss_nats": 2.0})
    log.finish()
    options = {"project": "project", "name": "design-seed0", "config": {"tokens": 64}}
    assert calls == [{**options, "resume": "allow"}, (3, {"val_loss_nats": 2.0}), "finish"]
    assert len(lines(tmp_path / "log.jsonl")) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "* Created new run\n")


def test_without_trackio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ngscale\[track\]'"):
        Trackio("project", "name", {})
