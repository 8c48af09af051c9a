"""Kill a plan at point after point, let it go on each time, and compare with one never killed.

A program of its own, so that every run is a fork of one process that has started no threads:

    python -m tests.plan.kill_driver CONFIG TEXT DIRECTORY POINTS

prints one JSON object: the points that were not met, and the files in which the plans differ.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import typer.testing

from ngscale import report
from ngscale.cli import app
from ngscale.collisions import recommend_run
from ngscale.plan import ledger, pages, run, stages
from ngscale.records import RunRecord, write_atomic
from ngscale.train_small import run as train_run
from ngscale.train_small import summary
from ngscale.train_small.cells import CellStore

STAGES = (
    "1-audit",
    "2-sizes",
    "3-candidates",
    "4-proxies",
    "5-schedule",
    "6-train-own-share",
)
Point = tuple[str, str]
_LAST = STAGES[-1]
POINTS: tuple[Point, ...] = (
    *((name, when) for name in STAGES[:-1] for when in ("begins", "report", "stage.json")),
    *((_LAST, when) for when in ("begins", "second run saved", "report", "stage.json")),
    ("plan", "report"),
)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(point: Point) -> None:
    """Have this process end without warning at ``point``."""
    name, when = point
    carry_out, save = stages.carry_out, CellStore.save

    def watched(stage: stages.Stage, root: Path) -> RunRecord:
        if stage.name == name and when == "begins":
            _die()
        return carry_out(stage, root)

    def written(path: Path, data: bytes) -> None:
        if path.name == "stage.json" and path.parent.parent.name == name and when == "stage.json":
            _die()
        write_atomic(path, data)

    setattr(ledger, "carry_out", watched)  # noqa: B010
    setattr(stages, "write_atomic", written)  # noqa: B010
    if when == "report":
        render = report.write_report

        def torn(page: Any, record: Any, environment: Any, out: Path) -> Path:
            if (out.parent.name if name != "plan" else record.verb) == name:
                out.mkdir(parents=True, exist_ok=True)
                (out / "record.json").write_text('{"schema_version": 1, "ver')  # no whole record
                _die()
            return render(page, record, environment, out)

        report.write_report = torn  # type: ignore[assignment]
    if when == "second run saved":
        saved = []

        def counted(self: CellStore, *arguments: Any) -> None:
            save(self, *arguments)
            saved.append(1)
            if len(saved) == 2:
                _die()

        CellStore.save = counted  # type: ignore[method-assign, assignment]


def forked(argv: list[str], point: Point | None) -> int:
    """The command in a process of its own; what it ended with, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                if point is not None:
                    kill_at(point)
                result = typer.testing.CliRunner().invoke(app, argv)
            os._exit(result.exit_code)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(root: Path) -> dict[str, str]:
    """Hashes of all that is a function of the inputs."""
    left_out = ("environment.json", "report.html", "README.md", "log.jsonl", "run.json", "lock")
    found = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in left_out
    }
    body = (root / "README.md").read_text().split("\n---\n")[0]
    return {**found, "README.md": hashlib.sha256(body.encode()).hexdigest()}


def main() -> None:
    """Every point in turn, in one directory."""
    config, text, directory, chosen = sys.argv[1:]
    points = POINTS if chosen == "all" else [POINTS[int(i)] for i in chosen.split(",")]
    options = ["--corpus", text, "--tokens", "1024", "--seeds", "1", "--candidates", "1"]
    argv = ["plan", config, *options, "--out"]
    whole, cut = Path(directory) / "whole", Path(directory) / "cut"
    assert forked([*argv, str(whole)], None) == 0
    not_killed = [point for point in points if forked([*argv, str(cut)], point) != -signal.SIGKILL]
    code = forked([*argv, str(cut)], None)
    expected, found = content(whole), content(cut)
    differing = sorted(
        name for name in {*expected, *found} if expected.get(name) != found.get(name)
    )
    found_out = {"not_killed": not_killed, "code": code, "differing": differing}
    sys.stdout.write(json.dumps(found_out))


if __name__ == "__main__":
    assert all((recommend_run, pages, run, train_run, summary))  # imported once, before the forks
    report.can_draw = lambda: False  # figures are a second each
    main()
