"""The residual stream of one forward pass, rebuilt from hooked writes and held to the real one.

Activations have TransformerLens names. Layer l turns ``resid_pre`` into ``resid_mid = resid_pre +
attn_out`` and that into ``resid_post = resid_mid + mlp_out``; ``embed`` is the output of
``embed_tokens``. Only per-token numbers are kept, so memory does not grow with depth.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ngscale.errors import NoResultError

CLOSURE_TOLERANCE = 1e-5
"""Largest |stream - (embed + sum of writes)| / |stream| at any token. A pre-norm decoder that adds
one write at a time closes exactly (0.0: the same float32 additions in the same order); another
order of the same additions costs some 1e-7; a missed write costs its own size, 1e-3 and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The largest error of the closure check, and where it was."""

    max_relative_error: float
    where: str
    tolerance: float = CLOSURE_TOLERANCE


class Stream:
    """Fed by hooks in the order of the forward pass: start, then per layer enter, add, add.

    Raises:
        NoResultError: from any method: the stream does not close, or is not finite, or is zero.
    """

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers
        self.closure = Closure(max_relative_error=0.0, where="the input of layer 0")
        self.writes: dict[str, dict[str, Float64[Tensor, " T"]]] = {}
        """Name of the sub-layer -> per-token numbers (fields of ``norms.SublayerNorms``)."""
        self.shares: list[dict[str, Float64[Tensor, " T"]]] = []
        """One per finished layer (fields of ``norms.EmbeddingShare``)."""
        self.first_layer: dict[str, Float64[Tensor, " T"]] = {}
        """Fields of ``norms.FirstLayer``."""
        self._embed: Tensor | None = None
        self._sum: Tensor | None = None  # embed + all writes so far (T, D)
        self._resid_pre: Tensor | None = None  # (T, D)
        self._written: Tensor | None = None  # sum of this layer's writes so far (T, D)

    def start(self, embed: Float[Tensor, "T D"]) -> None:
        """``embed_tokens`` has run. Copied, since a model may scale its output in place."""
        self._embed = self._sum = embed.clone()

    def enter_layer(self, layer: int, resid_pre: Float[Tensor, "T D"]) -> None:
        """``resid_pre`` is also the ``resid_post`` of the layer before."""
        self._arrive(f"the input of layer {layer}", resid_pre)
        self._resid_pre, self._written = resid_pre, torch.zeros_like(resid_pre)

    def finish(self, stream: Float[Tensor, "T D"]) -> None:
        """``stream`` enters the final norm; every layer must have written twice by now."""
        self._arrive("the input of the final norm", stream)
        if len(self.writes) != 2 * self.num_layers:
            raise NoResultError(
                f"attention and MLP wrote {len(self.writes)} times in one forward pass of "
                f"{self.num_layers} layers; the model skips layers, so there is no norm for each"
            )

    def add(self, name: str, write: Float[Tensor, "T D"]) -> None:
        """The module of sub-layer ``name`` has put out ``write``."""
        assert self._resid_pre is not None
        assert self._written is not None
        assert self._sum is not None
        if name in self.writes:
            raise NoResultError(
                f"{name} ran twice in one forward pass; probe cannot tell its writes"
            )
        stream = self._resid_pre + self._written
        norm = _finite_norm(f"the output of {name}", write)
        stream_norm = _positive_norm(f"the stream {name} adds to", stream)
        self.writes[name] = {
            "write": norm,
            "stream": stream_norm,
            "layer_input": norm_of(self._resid_pre),
            "cosine": torch.nan_to_num(dot(write, stream) / (norm * stream_norm), nan=0.0),
        }
        self._written = self._written + write
        self._sum = self._sum + write

    def _arrive(self, where: str, stream: Float[Tensor, "T D"]) -> None:
        """Hold ``stream`` to the sum of writes; then take what is measured after a layer."""
        if self._embed is None or self._sum is None:
            raise NoResultError("the first layer ran before embed_tokens; there is no embedding")
        norm = _positive_norm(f"the stream at {where}", stream)
        error = float((norm_of(stream - self._sum) / norm).max())
        if error > CLOSURE_TOLERANCE:
            raise NoResultError(
                f"closure fails at {where}: embedding plus attention and MLP outputs miss the "
                f"stream by {error:.2g} of its norm (tolerance {CLOSURE_TOLERANCE:g}); the model "
                "adds something else (a scaled embedding, scaled, normed or further writes), so "
                "any norms would be wrong and none are given"
            )
        if error > self.closure.max_relative_error:
            self.closure = Closure(max_relative_error=error, where=where)
        if self._written is not None:
            self._leave_layer(self._embed, self._written, stream)

    def _leave_layer(self, embed: Tensor, written: Tensor, resid_post: Tensor) -> None:
        inner, norm, embed_norm = dot(resid_post, embed), norm_of(resid_post), norm_of(embed)
        if not self.shares:
            self.first_layer = {
                "embed_sq": embed_norm**2,
                "cross": dot(embed, written),
                "write_sq": norm_of(written) ** 2,
            }
        self.shares.append({"share": inner / norm**2, "cosine": inner / (norm * embed_norm)})


def norm_of(rows: Float[Tensor, "T D"]) -> Float64[Tensor, " T"]:
    """L2 norm of every row, added up in float64."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.float64)
    return norm


def dot(left: Float[Tensor, "T D"], right: Float[Tensor, "T D"]) -> Float64[Tensor, " T"]:
    """Inner product row by row, in float64."""
    return (left.double() * right.double()).sum(-1)


def rows_of(activation: Any) -> Float[Tensor, "T D"]:
    """What a module of a batch of one put out (the first of a tuple), one row per token."""
    tensor = activation[0] if isinstance(activation, tuple) else activation
    assert isinstance(tensor, Tensor)
    return tensor.detach().reshape(-1, tensor.shape[-1])  # (1, T, D) -> (T, D)


def _finite_norm(what: str, rows: Tensor) -> Tensor:
    norm = norm_of(rows)
    _refuse(~torch.isfinite(norm), f"{what} is not finite", "no norm means anything")
    return norm


def _positive_norm(what: str, rows: Tensor) -> Tensor:
    norm = _finite_norm(what, rows)
    _refuse(norm == 0, f"{what} is zero", "a ratio to it means nothing")
    return norm


def _refuse(bad: Bool[Tensor, " T"], what: str, consequence: str) -> None:
    positions = bad.nonzero()
    if len(positions):
        raise NoResultError(f"{what} at position {int(positions[0])}, so {consequence}")
