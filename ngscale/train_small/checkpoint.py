"""Checkpoints to resume from: safetensors by torch.distributed.checkpoint, and one JSON document.

``<directory>/step-00000200/`` holds a shard of tensors per rank and training.json. It is written
as ``.step-00000200.partial``, synced, and renamed by the first rank once all are done: whatever
name a reader finds is whole. Any number of ranks reads what any number has written.
"""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ngscale.errors import InputError, ResourceError
from ngscale.records import dump_json
from ngscale.safetensors_header import inside, read_headers
from ngscale.train_small.distributed import ALONE, World, agreed, wait_for_all

DOCUMENT = "training.json"
SCHEMA_VERSION = 1
_NAMES = "step-" + 8 * "[0-9]"

_WAY_OUT = "the checkpoint is damaged: remove its directory to resume from the one before"

At = Callable[[str], None]
"""Told the name of each phase as it begins; tests kill the process there."""


def ignore(phase: str, /) -> None:
    """The hook of a run that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint found on disk, its document read and its tensors not."""

    path: Path
    document: dict[str, Any]


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
        with _quiet():
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
        for old in self._whole()[: -self.keep]:
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
        found = self._whole()
        last = float(found[-1].name.removeprefix("step-")) if found else 0.0
        steps = int(agreed(last, self.world))
        if not steps:
            return None
        path = self.directory / f"step-{steps:08d}"
        document = _read_document(path / DOCUMENT)
        if (differing := _differing(document["identity"], self.identity)) is not None:
            key, saved, wanted = differing
            raise InputError(
                f"{path / DOCUMENT}: {key}: is {_brief(saved)}, this run has {_brief(wanted)}; "
                "choose another --out"
            )
        return Saved(path=path, document=document)

    def _clean(self) -> None:
        self._prune()
        for path in [*self.directory.glob(".step-*.partial"), *self.directory.glob(_NAMES)]:
            if not (path / DOCUMENT).is_file() or path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)

    def _whole(self) -> list[Path]:
        return sorted(p for p in self.directory.glob(_NAMES) if (p / DOCUMENT).is_file())


def sizes(saved: Saved) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Types and shapes of the tensors, from the headers alone.

    Raises:
        InputError: a file is missing, damaged or does not cover its tensors.
        UnsafeInputError: a file is a link out of the directory.
    """
    try:
        for path in saved.path.glob("*.safetensors"):
            read_headers(inside(saved.path, path.name))
    except InputError as error:
        raise InputError(f"{error}; {_WAY_OUT}") from error
    try:
        metadata = HuggingFaceStorageReader(str(saved.path)).read_metadata()
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(saved.path, str(error)) from error
    found = {}
    for name, item in metadata.state_dict_metadata.items():
        assert isinstance(item, TensorStorageMetadata)
        held = sum(chunk.sizes.numel() for chunk in item.chunks)
        if any(n < 0 for n in item.size) or held != item.size.numel():
            raise damaged(saved.path, f"{name}: has {held} of {item.size.numel()} elements")
        found[name] = (item.properties.dtype, item.size)
    return found


def load_tensors(saved: Saved, targets: dict[str, Any], world: World) -> None:
    """Read into ``targets``, in place; the names, types and shapes have been compared.

    Raises:
        InputError: a file is damaged.
    """
    try:
        with _quiet():
            load(
                targets,
                storage_reader=HuggingFaceStorageReader(str(saved.path)),
                process_group=world.files,
                no_dist=world.size == 1,
            )
    except (CheckpointException, SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise damaged(saved.path, str(error)) from error


def check_sizes(
    saved: Saved,
    found: Mapping[str, tuple[torch.dtype, torch.Size]],
    targets: Mapping[str, Tensor],
) -> None:
    """Refuse a checkpoint that lacks one of ``targets``, or has it in another form.

    Raises:
        InputError: names the tensor.
    """
    for name, tensor in targets.items():
        if name not in found:
            raise damaged(saved.path, f"{name}: is missing")
        if found[name] != (tensor.dtype, tensor.shape):
            dtype, shape = found[name]
            raise damaged(
                saved.path,
                f"{name}: is {dtype} {list(shape)}, must be {tensor.dtype} {list(tensor.shape)}",
            )


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from error
    wanted = {"step": int, "identity": dict, "progress": dict}
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise damaged(path, f"schema_version: must be {SCHEMA_VERSION}")
    for key, kind in wanted.items():
        if not isinstance(document.get(key), kind):
            raise damaged(path, f"{key}: is missing or no {kind.__name__}")
    return document


def damaged(path: Path, problem: str) -> InputError:
    """The error of a checkpoint that cannot be resumed from."""
    line = " ".join(problem.split())[:300]
    return InputError(f"{path}: {line}; {_WAY_OUT}")


def _as_ours(target: Path, error: OSError | CheckpointException) -> InputError | ResourceError:
    causes: list[BaseException] = [error]
    if isinstance(error, CheckpointException):
        causes = [failure[0] for failure in error.failures.values()]
    for cause in causes:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that one process has no process group: that is what is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
