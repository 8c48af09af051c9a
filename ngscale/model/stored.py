"""Tensors of safetensors files, each read by its own range when it is needed.

Read, not mapped: pages of a memory map count as the process's memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from ngscale.errors import InputError
from ngscale.safetensors_header import TensorHeader, inside, not_finite, read_headers

CHUNK_BYTES = 8 * 2**20
"""Held beside the tensor while it is read."""

LARGEST = torch.finfo(torch.float32).max

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
            InputError: the file ends too early, or holds a number that is no finite float32.
        """
        dtype = dtype or DTYPES[self.header.dtype]
        return self.read_into(torch.empty(self.header.shape, dtype=dtype, device=device))

    def read_into(self, out: Tensor) -> Tensor:
        """Read it, some megabytes at a time, into ``out`` of its shape.

        Raises:
            InputError: as ``to``.
        """
        header, stored = self.header, DTYPES[self.header.dtype]
        flat = out.view(-1)
        step = CHUNK_BYTES // max(4, stored.itemsize)  # F8 is looked through as float32
        path = inside(self.directory, header.file)
        with path.open("rb", buffering=0) as file:
            file.seek(header.begin)
            for first in range(0, flat.numel(), step):
                part = torch.empty(min(step, flat.numel() - first), dtype=stored)
                data = part.view(torch.uint8).numpy().data
                if file.readinto(data) < len(data):
                    raise InputError(f"{path}: {header.name}: is truncated")
                check_finite(part, header.name, str(path), shape=header.shape, first=first)
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


def are_finite(weight: Tensor) -> bool:
    """Whether all its numbers are finite float32; whole numbers are."""
    if not weight.is_floating_point() or not weight.numel():
        return True
    low, high = torch.aminmax(_comparable(weight))  # NaN if any is; isfinite would hold a copy
    return bool(low.item() >= -LARGEST and high.item() <= LARGEST)


def _comparable(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype.itemsize == 1 else weight  # torch orders no F8


def check_finite(
    weight: Tensor,
    name: str,
    source: str,
    *,
    shape: Sequence[int] | None = None,
    first: int = 0,
) -> None:
    """Refuse weights that are broken; of a tensor of ``shape``, those from element ``first``.

    Raises:
        InputError: a number is no finite float32; names the first.
    """
    if are_finite(weight):
        return
    flat = _comparable(weight).reshape(-1)
    bad = ~flat.isfinite()
    if flat.dtype == torch.float64:
        bad |= flat.abs() > LARGEST
    index = int(bad.nonzero()[0])
    place = np.unravel_index(first + index, weight.shape if shape is None else tuple(shape))
    raise not_finite(source, name, [int(i) for i in place], flat[index].item())
