"""Checkpoints to resume from: safetensors by torch.distributed.checkpoint, and one JSON document.

``<directory>/step-00000200/`` holds a shard of tensors per rank and training.json. It is written
as ``.step-00000200.partial``, synced, and renamed by the first rank once all are done: whatever
name a reader finds is whole. Any number of ranks reads what any number has written.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_saver import save

from ngscale.errors import InputError, ResourceError
from ngscale.model.run_checkpoint import (
    DOCUMENT,
    NAMES,
    SCHEMA_VERSION,
    Saved,
    quiet,
    read_document,
    whole_checkpoints,
)
from ngscale.records import dump_json
from ngscale.train_small.distributed import ALONE, World, agreed, wait_for_all
from ngscale.whole_files import FULL

At = Callable[[str], None]
"""Told the name of each phase as it begins; tests kill the process there."""


def ignore(phase: str, /) -> None:
    """The hook of a run that nobody watches."""


class Checkpoints:
    """The checkpoints of one run, of which the last ``keep`` stay."""

    def __init__(
        self,
        directory: Path,
        *,
        identity: Mapping[str, Any],
        every: int = 200,
        keep: int = 2,
        world: World = ALONE,
        at: At = ignore,
    ) -> None:
        self.directory = directory
        self.identity: dict[str, Any] = json.loads(dump_json(identity))
        self.every = every
        self.keep = keep
        self.world = world
        self.at = at

    def save(self, step: int, tensors: dict[str, Any], progress: Mapping[str, Any]) -> None:
        """Write one, then remove those before the last ``keep``.

        Raises:
            ResourceError: the disk is full; the checkpoints before are as they were.
            InputError: the directory cannot be written.
        """
        self.at("checkpoint begins")
        target = self.directory / f"step-{step:08d}"
        partial = self.directory / f".{target.name}.partial"
        try:
            if self.world.is_first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            wait_for_all(self.world)
            self.at("checkpoint tensors")
            self._write_tensors(partial, tensors)
            if self.world.is_first:
                self._publish(partial, target, step, progress)
            wait_for_all(self.world)
        except (OSError, CheckpointException) as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise _as_ours(target, error) from error

    def _write_tensors(self, partial: Path, tensors: dict[str, Any]) -> None:
        with quiet():
            save(
                tensors,
                storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
                process_group=self.world.files,
                no_dist=self.world.size == 1,
            )

    def _publish(self, partial: Path, target: Path, step: int, progress: Mapping[str, Any]) -> None:
        self.at("checkpoint document")
        document = {
            "schema_version": SCHEMA_VERSION,
            "step": step,
            "num_ranks": self.world.size,
            "identity": self.identity,
            "progress": progress,
        }
        with (partial / DOCUMENT).open("wb") as file:
            file.write(dump_json(document).encode())
            file.flush()
            os.fsync(file.fileno())
        _sync(partial)
        self.at("checkpoint rename")
        shutil.rmtree(target, ignore_errors=True)  # a run that was resumed from before it
        partial.rename(target)
        _sync(self.directory)
        self.at("checkpoint renamed")
        self._prune()
        self.at("checkpoint pruned")

    def _prune(self) -> None:
        for old in whole_checkpoints(self.directory)[: -self.keep]:
            (old / DOCUMENT).unlink()  # first, so that half a checkpoint has none
            self.at("checkpoint pruning")
            shutil.rmtree(old)

    def latest(self) -> Saved | None:
        """The one of the most steps; None without any. What a killed run left half done goes.

        Raises:
            InputError: it is unreadable, or of another design, corpus or set of options.
        """
        if self.world.is_first:
            self._clean()
        wait_for_all(self.world)
        found = whole_checkpoints(self.directory)
        last = float(found[-1].name.removeprefix("step-")) if found else 0.0
        steps = int(agreed(last, self.world))
        if not steps:
            return None
        path = self.directory / f"step-{steps:08d}"
        document = read_document(path / DOCUMENT)
        if (differing := _differing(document["identity"], self.identity)) is not None:
            key, saved, wanted = differing
            raise InputError(
                f"{path / DOCUMENT}: {key}: is {_brief(saved)}, this run has {_brief(wanted)}; "
                "choose another --out"
            )
        return Saved(path=path, document=document)

    def _clean(self) -> None:
        self._prune()
        for path in [*self.directory.glob(".step-*.partial"), *self.directory.glob(NAMES)]:
            if not (path / DOCUMENT).is_file() or path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)


def _as_ours(target: Path, error: OSError | CheckpointException) -> InputError | ResourceError:
    causes: list[BaseException] = [error]
    if isinstance(error, CheckpointException):
        causes = [failure[0] for failure in error.failures.values()]
    for cause in causes:
        if getattr(cause, "errno", None) in FULL:
            return ResourceError(
                f"{target}: the disk is full; make room and run the same command: it resumes "
                "from the checkpoint before"
            )
    return InputError(f"{target}: cannot be written: {causes[0]}")


def _differing(saved: Any, wanted: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key whose values are not equal, with both values."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for name in sorted(saved.keys() | wanted.keys()):
            path = f"{key}.{name}".lstrip(".")
            if (found := _differing(saved.get(name), wanted.get(name), path)) is not None:
                return found
        return None
    return None if saved == wanted else (key, saved, wanted)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
