"""What n-gram tables and their readers hold and weigh, for every scheme. Exact integers.

Standard library only.
"""

from dataclasses import dataclass
from typing import Literal

from ngscale.errors import SpecError
from ngscale.model_spec import NgramGate
from ngscale.spec import NgramSpec

RowDtype = Literal["fp32", "bf16", "fp8", "fp8_e8m0"]
_VALUE_BYTES: dict[RowDtype, int] = {"fp32": 4, "bf16": 2, "fp8": 1, "fp8_e8m0": 1}
_SCALE_BLOCK = 32
"""Columns that share a scale of one byte in DeepSeek-V4.1's tables (mlx-vlm 0.7.10, which loads
scales of single rows and of blocks of 32; the former are counted here)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramParameters:
    """Parameters of one set of tables."""

    tables: int
    """Of the rows that can be read: hashed and reserved ones."""
    padding: int
    """Of rows that only fill up to a multiple."""
    projections: int
    """Between the rows and the residual stream: projections, gate, norms, convolution."""

    @property
    def stored(self) -> int:
        """Of all rows, as checkpoints hold them."""
        return self.tables + self.padding


def table_width(spec: NgramSpec, hidden_size: int | None) -> int:
    """Columns of every table: stated, or ``hidden_size // num_tables``.

    Raises:
        SpecError: neither is known.
    """
    if spec.row_width is not None:
        return spec.row_width
    if hidden_size is None:
        raise SpecError("row_width: is not stated, and hidden_size, which would give it, neither")
    return hidden_size // spec.num_tables


def ngram_parameters(
    spec: NgramSpec, *, hidden_size: int | None = None, gate: NgramGate | None = None
) -> NgramParameters:
    """Parameters of one set of tables in a model of this width.

    Raises:
        SpecError: a shape is not known.
    """
    width = table_width(spec, hidden_size)
    readable = sum(map(spec.readable_rows, range(spec.num_tables)))
    return NgramParameters(
        tables=readable * width,
        padding=(spec.physical_rows - readable) * width,
        projections=_projections(spec, width, hidden_size, gate),
    )


def _projections(
    spec: NgramSpec, width: int, hidden_size: int | None, gate: NgramGate | None
) -> int:
    """By how the rows become one vector: LongCat's average and Marin's sum project each table's
    rows (arXiv:2601.21204 Eq. 3), Over-Encoding projects word and rows together, Nanbeige the rows
    alone; modded-nanogpt and BLT add them as they are. Nanbeige's gate in layers is not counted.
    """
    if spec.fusion == "added":
        return 0
    joint_width = spec.num_tables * width
    if spec.fusion == "gated":
        if gate is None:
            raise SpecError(f"the gate of the n-gram tables of layers {spec.layers} is not known")
        if gate.joint_width != joint_width:
            raise SpecError(f"rows of {joint_width} columns meet a gate of {gate.joint_width}")
        return gate.parameters
    if hidden_size is None:
        raise SpecError("hidden_size: is not stated, so neither are the projections")
    return (joint_width + hidden_size * (spec.fusion == "concat")) * hidden_size


def row_bytes(width: int, dtype: RowDtype) -> int:
    """Bytes of one stored row, with its scales where it has some."""
    scales = -(-width // _SCALE_BLOCK) if dtype == "fp8_e8m0" else 0
    return width * _VALUE_BYTES[dtype] + scales
