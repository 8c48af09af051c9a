"""Tensors of safetensors files, each read by its own range when it is needed.

Read, not mapped: pages of a memory map count as the process's memory.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import EllipsisType

import torch
from torch import Tensor

from ngscale.errors import InputError
from ngscale.safetensors_header import TensorHeader, inside

CHUNK_BYTES = 8 * 2**20
"""Held beside the tensor while it is read."""

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""Types of safetensors that PyTorch computes with or converts from."""


class StoredTensor:
    """A tensor on disk; ``[...]`` and ``to`` as of safetensors' slices, which transformers takes.

    Raises:
        InputError: it is of a type that PyTorch does not read.
    """

    def __init__(self, directory: Path, header: TensorHeader) -> None:
        if header.dtype not in DTYPES:
            raise InputError(
                f"{directory / header.file}: {header.name}: is {header.dtype}; probe reads "
                f"{', '.join(DTYPES)}"
            )
        self.directory, self.header = directory, header

    def __getitem__(self, everything: EllipsisType) -> "StoredTensor":
        return self

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Read it, some megabytes at a time, into a tensor of ``dtype`` (else its own).

        Raises:
            InputError: the file ends too early.
        """
        header, stored = self.header, DTYPES[self.header.dtype]
        out = torch.empty(header.shape, dtype=dtype or stored, device=device)
        flat = out.view(-1)
        step = CHUNK_BYTES // stored.itemsize
        path = inside(self.directory, header.file)
        with path.open("rb", buffering=0) as file:
            file.seek(header.begin)
            for first in range(0, flat.numel(), step):
                part = torch.empty(min(step, flat.numel() - first), dtype=stored)
                data = part.view(torch.uint8).numpy().data
                if file.readinto(data) < len(data):
                    raise InputError(f"{path}: {header.name}: is truncated")
                flat[first : first + len(part)] = part
        return out


class PlannedTensor(StoredTensor):
    """The same without its values: what a model is built from before anything is read."""

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """A tensor of its shape on the meta device, whatever ``device`` says."""
        stored = DTYPES[self.header.dtype]
        empty = torch.empty(self.header.shape, dtype=dtype or stored, device="meta")
        return empty.as_subclass(_Planned)


class _Planned(torch.Tensor):
    """Stays on the meta device."""

    def to(self, *args: object, **kwargs: object) -> Tensor:
        return self


class StoredTensors(Mapping[str, Tensor]):
    """A checkpoint's tensors by name; each access reads one."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].to()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
