"""Reading the checkpoints of a training run: tensors by torch.distributed.checkpoint, one document.

``step-00000200/`` holds a shard of tensors per rank (safetensors) and training.json, which is there
only where the checkpoint is whole. ``train_small/checkpoint.py`` writes them.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from ngscale import strict_json
from ngscale.errors import InputError
from ngscale.model.stored import are_finite, open_tensors
from ngscale.safetensors_header import inside, read_headers

DOCUMENT = "training.json"
SCHEMA_VERSION = 1
NAMES = "step-" + 8 * "[0-9]"
_WAY_OUT = "the checkpoint is damaged: remove its directory to resume from the one before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint found on disk, its document read and its tensors not."""

    path: Path
    document: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps that were done."""
        step: int = self.document["step"]
        return step


def whole_checkpoints(directory: Path) -> list[Path]:
    """Those that are complete, in the order of steps."""
    return sorted(p for p in directory.glob(NAMES) if (p / DOCUMENT).is_file())


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
    except (
        *(SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError),
        *(ArithmeticError, RuntimeError),  # of numbers and depths of the JSON among the metadata
    ) as error:
        raise damaged(saved.path, str(error)) from error
    found = {}
    for name, item in metadata.state_dict_metadata.items():
        assert isinstance(item, TensorStorageMetadata)
        held = sum(chunk.sizes.numel() for chunk in item.chunks)
        if any(_overlap(one, other) for one, other in combinations(item.chunks, 2)):
            raise damaged(saved.path, f"{name}: two shards hold the same elements")
        if any(n < 0 for n in item.size) or held != item.size.numel():
            raise damaged(saved.path, f"{name}: has {held} of {item.size.numel()} elements")
        found[name] = (item.properties.dtype, item.size)
    return found


def _overlap(one: ChunkStorageMetadata, other: ChunkStorageMetadata) -> bool:
    """Whether they share an element; of as many as there are, one would then be in no shard."""
    return all(
        max(a, b) < min(a + m, b + n)
        for a, m, b, n in zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
    )


def load_tensors(
    saved: Saved,
    targets: dict[str, Any],
    *,
    group: dist.ProcessGroup | None = None,
    alone: bool = True,
) -> None:
    """Read into ``targets``, in place; the names, types and shapes have been compared.

    Raises:
        InputError: a file is damaged, or a number is not finite.
    """
    try:
        with quiet():
            load(
                targets,
                storage_reader=HuggingFaceStorageReader(str(saved.path)),
                process_group=group,
                no_dist=alone,
            )
    except (CheckpointException, SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise damaged(saved.path, str(error)) from error
    for target in targets.values():
        if not are_finite(target.to_local() if hasattr(target, "to_local") else target):
            _refuse_numbers(saved)


def _refuse_numbers(saved: Saved) -> None:
    """Read it once more, by what can name the file and the place in it."""
    try:
        for path in sorted(saved.path.glob("*.safetensors")):
            for tensor in open_tensors(path).values():
                tensor.to()
    except InputError as error:
        raise InputError(f"{error}; {_WAY_OUT}") from error


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


def read_document(path: Path) -> dict[str, Any]:
    """What stands beside the tensors: step, identity of the run, progress.

    Raises:
        InputError: it cannot be read, or is of another schema.
    """
    try:
        document = strict_json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
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


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warning that one process has no process group: that is what is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
