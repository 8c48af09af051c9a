"""What became of every stage: finished, skipped, failed, or waiting for one that failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ngscale.errors import NgscaleError, ResourceError
from ngscale.plan.stages import Stage, carry_out, load
from ngscale.records import RunRecord

State = Literal["finished", "to do", "skipped", "failed", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One stage."""

    name: str
    state: State
    record: RunRecord | None = None
    digest: str | None = None
    why: str = ""
    """Of what is not finished."""
    unknown: str = ""
    """What is then not known."""


class Ledger:
    """Entries in the order they were made, and the first error; after Ctrl-C all else waits."""

    def __init__(self, root: Path, tell: Callable[[str], object], *, dry: bool) -> None:
        self.root = root
        self.tell = tell
        self.dry = dry
        self.entries: list[Entry] = []
        self.error: NgscaleError | KeyboardInterrupt | None = None

    def carry_out(
        self, name: str, stage_of: Callable[[], Stage], *, unknown: str
    ) -> RunRecord | None:
        """The record of a stage, taken up where its inputs were met before; None where it failed,
        or is to do and this is a dry run. ``unknown`` is what is not known without it.
        """
        if isinstance(self.error, KeyboardInterrupt):
            self.wait(name, unknown=unknown)
            return None
        if self.dry and not (self.root / "stages" / name).is_dir():
            self._add(Entry(name=name, state="to do"))
            return None
        try:
            stage = stage_of()
            record = load(stage, self.root)
            if record is not None:
                self.tell(f"{name}: finished before")
            elif self.dry:
                self._add(Entry(name=name, state="to do", digest=stage.digest))
                return None
            else:
                beside = stage.directory(self.root).parent
                if any(beside.glob("*/stage.json")):
                    self.tell(f"{name}: new inputs; what other ones gave stays in {beside}")
                self.tell(f"{name}: begins")
                record = carry_out(stage, self.root)
        except NgscaleError as error:
            self._fail(name, error, unknown)
        except MemoryError:
            line = "out of memory; use a smaller corpus or a smaller design"
            self._fail(name, ResourceError(line), unknown)
        except KeyboardInterrupt as interruption:
            self.error = None  # it ends the plan, whatever failed before
            self._fail(name, interruption, unknown)
        else:
            self._add(Entry(name=name, state="finished", record=record, digest=stage.digest))
            return record
        return None

    def _fail(self, name: str, error: NgscaleError | KeyboardInterrupt, unknown: str) -> None:
        self.error = self.error or error
        why = " ".join(str(error).split()) or "interrupted"
        self.tell(f"{name}: failed: {why}")
        self._add(Entry(name=name, state="failed", why=why, unknown=unknown))

    def skip(self, name: str, why: str, *, unknown: str) -> None:
        """A stage that is impossible here, or was not asked for."""
        self.tell(f"{name}: skipped: {why}")
        self._add(Entry(name=name, state="skipped", why=why, unknown=unknown))

    def wait(self, name: str, *, unknown: str) -> None:
        """A stage whose inputs are not there: to do after the ones before, or after a failure."""
        if self.error is None:
            self._add(Entry(name=name, state="to do"))
            return
        failed = [entry.name for entry in self.entries if entry.state == "failed"]
        after = failed[-1] if isinstance(self.error, KeyboardInterrupt) else failed[0]
        self._add(Entry(name=name, state="waiting", why=f"comes after {after}", unknown=unknown))

    def ahead(self, names: Sequence[str]) -> "Ledger":
        """A copy in which these stages are to do."""
        copy = Ledger(self.root, self.tell, dry=self.dry)
        copy.entries = [*self.entries, *(Entry(name=name, state="to do") for name in names)]
        copy.error = self.error
        return copy

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def state(self, name: str) -> State | None:
        """What became of a stage so far."""
        return next((entry.state for entry in self.entries if entry.name == name), None)

    def record(self, name: str) -> RunRecord | None:
        """That of a finished stage."""
        return next((entry.record for entry in self.entries if entry.name == name), None)
