"""log.jsonl of one run: a line per log point and evaluation; and trackio, where it is asked for."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from ngscale.errors import InputError, MissingExtraError
from ngscale.whole_files import append_whole, replacing

LOG_NAME = "log.jsonl"


class Tracker(Protocol):
    """An experiment tracker."""

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Take the values of one step."""

    def finish(self) -> None:
        """The run is over."""


class Trackio:
    """A run of a trackio project (``pip install 'ngscale[track]'``)."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        """Begin the run, or go on with the one of that name.

        Raises:
            MissingExtraError: trackio is not installed.
        """
        try:
            import trackio
        except ModuleNotFoundError as error:
            if error.name == "trackio":
                raise MissingExtraError("trackio", "track") from error
            raise
        with _aside():
            self._run = trackio.init(
                project=project, name=name, config=dict(config), resume="allow"
            )

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """As ``Tracker``."""
        self._run.log(dict(values), step=step)

    def finish(self) -> None:
        """As ``Tracker``."""
        with _aside():
            self._run.finish()


def _aside() -> contextlib.redirect_stdout[TextIO]:
    """What trackio prints is no answer: it goes to stderr."""
    return contextlib.redirect_stdout(sys.stderr)


class RunLog:
    """Lines of JSON, each whole or not there, in the order of steps.

    All of a line but ``elapsed_s`` is a function of the run's inputs. Without a path nothing is
    written; a ``tracker`` gets the same values.
    """

    def __init__(self, path: Path | None, tracker: Tracker | None = None) -> None:
        self.path = path
        self.tracker = tracker
        self._start = time.monotonic()

    def resume(self, step: int) -> None:
        """Drop the lines after ``step``, and a line that a killed process left unfinished.

        Raises:
            InputError: the file cannot be read or written.
        """
        if self.path is None or not self.path.exists():
            return
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be taken up: {error.strerror}") from error
        kept = [line for line in lines if _step_of(line) <= step]
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(kept))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Add one line.

        Raises:
            DiskFullError: the disk is full; nothing of the line was written.
            InputError: the file cannot be written.
        """
        if self.path is not None:
            elapsed_s = round(time.monotonic() - self._start, 3)
            line = json.dumps({"step": step, **values, "elapsed_s": elapsed_s}, allow_nan=False)
            append_whole(self.path, f"{line}\n".encode())
        if self.tracker is not None:
            self.tracker.log(values, step)

    def finish(self) -> None:
        """The run is over."""
        if self.tracker is not None:
            self.tracker.finish()


def _step_of(line: bytes) -> float:
    """The step of a line; infinite where it is not a whole line of ours."""
    if not line.endswith(b"\n"):
        return float("inf")
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
    return float(step)
