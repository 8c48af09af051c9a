"""One stage: inputs -> record, kept on disk under a digest of the inputs and found again by it.

``<root>/stages/<name>/<digest>/`` holds the stage's report and record.json; stage.json, written
last, says that it is finished. Other inputs have another digest, so what was finished under other
options stays beside.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ngscale import __version__, strict_json
from ngscale.records import (
    Report,
    RunRecord,
    dump_json,
    environment,
    read_record,
    write_atomic,
)

_DONE = "stage.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a stage gives."""

    record: RunRecord
    report: Report
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Of this machine, such as tokens/s: no part of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Something to do once."""

    name: str
    inputs: Mapping[str, Any]
    """All that the record is a function of."""
    make: Callable[[Path], Made]
    """Given the directory, where it may keep what it resumes from."""
    argv: tuple[str, ...]
    """The command that does this stage alone."""

    @property
    def digest(self) -> str:
        """The name of the inputs."""
        described = {"format": _FORMAT, "ngscale": __version__, "inputs": dict(self.inputs)}
        return hashlib.sha256(dump_json(described).encode()).hexdigest()[:12]

    def directory(self, root: Path) -> Path:
        """Where it is kept."""
        return root / "stages" / self.name / self.digest


def load(stage: Stage, root: Path) -> RunRecord | None:
    """The record of a finished stage; None where it is not finished.

    Raises:
        InputError: it is there and cannot be read.
    """
    directory = stage.directory(root)
    return read_record(directory / "record.json") if (directory / _DONE).is_file() else None


def carry_out(stage: Stage, root: Path) -> RunRecord:
    """Do it, keep it; what a killed one left is overwritten or taken up by ``make``."""
    from ngscale.report import write_report

    directory, start = stage.directory(root), time.monotonic()
    made = stage.make(directory)
    measured = {"stage_s": round(time.monotonic() - start, 1), **made.measured}
    write_report(made.report, made.record, {**environment(stage.argv), **measured}, directory)
    done = {"stage": stage.name, "digest": stage.digest, "inputs": dict(stage.inputs)}
    write_atomic(directory / _DONE, dump_json(done).encode())
    return read_record(directory / "record.json")


def seconds(stage_directory: Path) -> float | None:
    """How long a finished stage took, by its environment.json."""
    try:
        made = strict_json.loads((stage_directory / "environment.json").read_bytes())
    except (OSError, ValueError):
        return None
    value = made.get("stage_s") if isinstance(made, dict) else None
    return float(value) if isinstance(value, int | float) else None
