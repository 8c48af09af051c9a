"""Tensors of safetensors files, each read by its own range when it is needed.

Read, not mapped: pages of a memory map count as the process's memory.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import EllipsisType

import torch
from torch import Tensor

from ngscale.errors import InputError, NoResultError
from ngscale.safetensors_header import TensorHeader, inside, read_headers

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
                f"{directory / header.file}: {header.name}: is {header.dtype}; what is "
                f"read is {', '.join(DTYPES)}"
            )
        self.directory, self.header = directory, header

    def __getitem__(self, everything: EllipsisType) -> "StoredTensor":
        return self

    def to(
        self, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Read it into a tensor of ``dtype`` (else its own).

        Raises:
            InputError: the file ends too early.
        """
        dtype = dtype or DTYPES[self.header.dtype]
        return self.read_into(torch.empty(self.header.shape, dtype=dtype, device=device))

    def read_into(self, out: Tensor) -> Tensor:
        """Read it, some megabytes at a time, into ``out`` of its shape.

        Raises:
            InputError: the file ends too early.
        """
        header, stored = self.header, DTYPES[self.header.dtype]
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


def open_tensors(place: Path) -> dict[str, StoredTensor]:
    """Those of a safetensors file, or of a checkpoint's directory; the headers alone are read.

    Raises:
        InputError, UnsafeInputError: as ``read_headers``; or one is of a type PyTorch has not.
    """
    headers = read_headers(place)
    directory = place
    if not place.is_dir():  # a link was named on purpose
        directory = place.resolve().parent
        headers = {name: replace(h, file=place.resolve().name) for name, h in headers.items()}
    return {name: StoredTensor(directory, header) for name, header in headers.items()}


def planned(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Their shapes, on the meta device."""
    return {name: PlannedTensor(t.directory, t.header).to() for name, t in tensors.items()}


class StoredTensors(Mapping[str, Tensor]):
    """A checkpoint's tensors by name; each access reads one."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name].to()

    def __contains__(self, name: object) -> bool:
        return name in self.tensors  # Mapping's would read it

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def check_finite(weight: Tensor, name: str, source: str) -> None:
    """Refuse a model whose weights are broken.

    Raises:
        NoResultError: a number is not finite.
    """
    if not weight.is_floating_point() or not weight.numel():
        return
    low, high = torch.aminmax(weight)  # NaN if any is; isfinite would hold the weight once more
    if not math.isfinite(low.item()) or not math.isfinite(high.item()):
        raise NoResultError(f"{source}: {name}: has weights that are not finite")
