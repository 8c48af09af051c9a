"""The residual stream of one forward pass, rebuilt from hooked writes and held to the real one.

Activations have TransformerLens names. Layer l turns ``resid_pre`` into ``resid_mid = resid_pre +
attn_out`` and that into ``resid_post = resid_mid + mlp_out``; ``embed`` is the output of
``embed_tokens``. Only per-token numbers are kept, so memory does not grow with depth.

Hyper-connections keep S streams of width D. A token's row is then all of them side by side, S*D
wide: the embedding S times, and every write S times, each times its stream's injection weight.
Norms are of the whole row, closure is checked stream by stream.

Shapes: T tokens, D hidden, S streams, R = S*D.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ngscale.errors import NoResultError
from ngscale.probe.amplify import layer_normed
from ngscale.probe.structure import Structure, Write

CLOSURE_TOLERANCE = 1e-5
"""Largest |stream - (embed + sum of writes)| / |stream| at any token. A pre-norm decoder that adds
one write at a time closes exactly (0.0: the same float32 additions in the same order); another
order of the same additions costs some 1e-7; a missed write costs its own size, 1e-3 and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """The largest error of the closure check, and where it was."""

    max_relative_error: float
    where: str
    checks: int
    """Points of the forward pass where the stream was compared, at every token."""
    tolerance: float = CLOSURE_TOLERANCE


class Stream:
    """Fed by hooks in the order of the forward pass: start, then per layer enter, read, add.

    Raises:
        NoResultError: from any method: the stream does not close, or is not finite, or is zero.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.writes: dict[str, dict[str, Float64[Tensor, " T"]]] = {}
        """Name of the sub-layer -> per-token numbers (fields of ``norms.SublayerNorms``)."""
        self.ratios_by_stream: dict[str, Float64[Tensor, "T S"]] = {}
        """Of hyper-connections: |write| / |stream| in each stream."""
        self.shares: list[dict[str, Float64[Tensor, " T"]]] = []
        """One per finished layer (fields of ``norms.EmbeddingShare``)."""
        self.part_shares: list[dict[str, Float64[Tensor, " T"]]] = []
        """One per finished layer: share of every part of the embedding."""
        self.first_layer: dict[str, Float64[Tensor, " T"]] = {}
        """Fields of ``norms.FirstLayer``."""
        self._worst: tuple[float, str] = (0.0, "the input of layer 0")
        self._checks = 0
        self._embed: Tensor | None = None
        self._parts: Mapping[str, Tensor] = {}
        self._sum: Tensor | None = None  # embed + all writes so far (T, R)
        self._norm: Tensor | None = None  # that of _sum, where it has been taken (T,)
        self._embed_norm: Tensor | None = None  # (T,)
        self._layer_input: Tensor | None = None  # (T, R)
        self._layer_norm: Tensor | None = None  # its norm (T,)
        self._deferred: list[tuple[Write, Tensor]] = []

    @property
    def closure(self) -> Closure:
        """The worst error so far."""
        error, where = self._worst
        return Closure(max_relative_error=error, where=where, checks=self._checks)

    def start(self, embed: Float[Tensor, "T D"], parts: Mapping[str, Tensor]) -> None:
        """``embed_tokens`` has run, and put out the sum of ``parts`` where those are known.

        Copied, since a model may scale its output in place.
        """
        copies = self.structure.num_streams
        self._embed = embed.repeat(1, copies)
        self._parts = {name: part.repeat(1, copies) for name, part in parts.items()}
        self._sum = self._embed.clone() if self.structure.positions else self._embed

    def enter_layer(self, index: int, resid_pre: Float[Tensor, "T R"]) -> None:
        """``resid_pre`` is also the ``resid_post`` of the layer before."""
        norm = self._arrive(f"the input of layer {index}", resid_pre)
        self._layer_input, self._layer_norm = self._sum, norm

    def finish(self, stream: Float[Tensor, "T R"]) -> None:
        """``stream`` enters the final norm; every sub-layer must have written by now."""
        self._arrive("the input of the final norm", stream)
        expected = len(self.structure.writes)
        if len(self.writes) != expected:
            raise NoResultError(
                f"attention and MLP wrote {len(self.writes)} times in one forward pass, not "
                f"{expected} times in {len(self.structure.layers)} layers; the model skips some, "
                "so there is no norm for each"
            )

    def read(self, write: Write, stream: Float[Tensor, "T R"]) -> None:
        """What sub-layer ``write`` reads must be the stream it is said to be added to."""
        expected = self._layer_input if write.parallel else self._sum
        assert expected is not None
        norm = self._check(f"what {write.name} reads, {write.added_to}", stream, expected)
        if not write.parallel:
            self._norm = norm

    def add(
        self, write: Write, out: Float[Tensor, "T O"], injected: Float[Tensor, "T S"] | None
    ) -> None:
        """The module of ``write`` has put out ``out``: D wide, or R where it writes per stream."""
        rows = out if injected is None else (out.unsqueeze(1) * injected.unsqueeze(2)).flatten(1)
        if write.deferred:
            self._deferred.append((write, rows))
        else:
            self._add(write, rows)

    def _add(self, write: Write, rows: Tensor) -> None:
        assert self._sum is not None
        name = write.name
        if name in self.writes:
            raise NoResultError(
                f"{name} ran twice in one forward pass; probe cannot tell its writes"
            )
        if rows.shape != self._sum.shape:
            raise NoResultError(
                f"{name} puts out rows of {rows.shape[-1]}, the stream's have "
                f"{self._sum.shape[-1]}; probe cannot tell its writes"
            )
        stream = self._layer_input if write.parallel else self._sum
        assert stream is not None
        norm = _finite_norm(f"the output of {name}", rows)
        stream_norm = self._layer_norm if write.parallel else self._norm
        if stream_norm is None:
            stream_norm = _positive_norm(f"the stream {name} adds to", stream)
        layer_norm = stream_norm if self._layer_norm is None else self._layer_norm
        self.writes[name] = {
            "write": norm,
            "stream": stream_norm,
            "layer_input": layer_norm,
            "cosine": torch.nan_to_num(dot(rows, stream) / (norm * stream_norm), nan=0.0),
        }
        if self.structure.num_streams > 1:
            self.ratios_by_stream[name] = self._by_stream(rows) / self._by_stream(stream)
        self._sum, self._norm = self._sum + rows, None

    def _by_stream(self, rows: Float[Tensor, "T R"]) -> Float64[Tensor, "T S"]:
        return norm_of(rows.view(len(rows), self.structure.num_streams, -1))

    def _arrive(self, where: str, stream: Float[Tensor, "T R"]) -> Float64[Tensor, " T"]:
        """Hold ``stream`` to the sum of writes; then take what is measured after a layer."""
        if self._embed is None or self._sum is None:
            raise NoResultError("the first layer ran before embed_tokens; there is no embedding")
        for write, rows in self._deferred:
            self._add(write, rows)
        self._deferred.clear()
        norm = self._norm = self._check(where, stream, self._sum)
        if self._layer_input is not None:
            self._leave_layer(self._embed, self._sum, norm)
        return norm

    def _check(self, where: str, stream: Tensor, expected: Tensor) -> Float64[Tensor, " T"]:
        """The norm of ``stream``, which has to be ``expected``."""
        if stream.shape != expected.shape:
            raise NoResultError(
                f"closure fails at {where}: rows of {stream.shape[-1]}, the sum of writes has rows "
                f"of {expected.shape[-1]}"
            )
        norm = _positive_norm(f"the stream at {where}", stream)
        difference = stream - expected
        if self.structure.num_streams == 1:
            error = float((norm_of(difference) / norm).max())
        else:
            # A stream that is zero has to be met exactly.
            each = self._by_stream(difference) / self._by_stream(stream)
            error = float(each.nan_to_num(nan=0.0, posinf=torch.inf).max())
        if error > CLOSURE_TOLERANCE:
            raise NoResultError(
                f"closure fails at {where}: embedding plus attention and MLP outputs miss the "
                f"stream by {error:.2g} of its norm (tolerance {CLOSURE_TOLERANCE:g}); the model "
                "adds something else (a scaled embedding, scaled, normed or further writes), so "
                "any norms would be wrong and none are given"
            )
        self._checks += 1
        if error > self._worst[0]:
            self._worst = (error, where)
        return norm

    def _leave_layer(self, embed: Tensor, resid_post: Tensor, norm: Tensor) -> None:
        if self._embed_norm is None:
            self._embed_norm = norm_of(embed)
        inner, embed_norm = dot(resid_post, embed), self._embed_norm
        if not self.shares:
            written = resid_post - embed
            normed = layer_normed(embed, embed.shape[-1] // self.structure.num_streams)
            self.first_layer = {
                "embed_sq": embed_norm**2,
                "cross": dot(embed, written),
                "write_sq": norm_of(written) ** 2,
                "normed_sq": norm_of(normed) ** 2,
                "normed_cross": dot(normed, written),
            }
        self.shares.append({"share": inner / norm**2, "cosine": inner / (norm * embed_norm)})
        self.part_shares.append(
            {name: dot(resid_post, part) / norm**2 for name, part in self._parts.items()}
        )


def norm_of(rows: Float[Tensor, "*T R"]) -> Float64[Tensor, "*T"]:
    """L2 norm of every row; float32 sums, which cost 2e-7 of it and half the time of float64."""
    norm: Tensor = torch.linalg.vector_norm(rows, dim=-1)
    return norm.double()


def dot(left: Float[Tensor, "T R"], right: Float[Tensor, "T R"]) -> Float64[Tensor, " T"]:
    """Inner product row by row."""
    return (left * right).sum(-1).double()


def rows_of(activation: Any) -> Float[Tensor, "T R"]:
    """What a module of a batch of one put out (the first of a tuple), one row per token."""
    tensor = activation[0] if isinstance(activation, tuple) else activation
    assert isinstance(tensor, Tensor)
    return tensor.detach().reshape(-1, tensor.shape[-1])  # (1, T, R) -> (T, R)


def _finite_norm(what: str, rows: Tensor) -> Tensor:
    norm = norm_of(rows)
    if not math.isfinite(float(norm.sum())):  # one number instead of T, of which none is negative
        _refuse(~torch.isfinite(norm), f"{what} is not finite", "no norm means anything")
    return norm


def _positive_norm(what: str, rows: Tensor) -> Tensor:
    norm = _finite_norm(what, rows)
    if not float(norm.min()):
        _refuse(norm == 0, f"{what} is zero", "a ratio to it means nothing")
    return norm


def _refuse(bad: Bool[Tensor, " T"], what: str, consequence: str) -> None:
    positions = bad.nonzero()
    if len(positions):
        raise NoResultError(f"{what} at position {int(positions[0])}, so {consequence}")
