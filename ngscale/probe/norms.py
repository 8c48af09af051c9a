"""One forward pass per window with hooks at every write: per-token norms of writes and streams."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from ngscale.probe.embedding_parts import EmbeddingParts
from ngscale.probe.stream import Closure, Stream, norm_of, rows_of
from ngscale.probe.structure import Kind, Structure, Write
from ngscale.probe.turns import layer_by_layer

PerToken = Float64[np.ndarray, "W T"]
"""One number per window and position."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SublayerNorms:
    """One write, token by token."""

    name: str
    """``L0_attn_out``, ``L0_mlp_out``, ``L1_attn_out``, ..; ``L1_attn0`` in shortcut blocks."""
    kind: Kind
    added_to: str
    """Name of the stream: ``L0_resid_pre``, ``L0_resid_mid``."""
    write: PerToken
    """L2 norm of the module's output; of hyper-connections, of all its weighted copies."""
    stream: PerToken
    """L2 norm of what the write is added to."""
    layer_input: PerToken
    """L2 norm of what enters the layer."""
    cosine: PerToken
    """Between write and stream; 0 where the write is 0."""
    ratio_by_stream: Float64[np.ndarray, "W T S"] | None
    """Write over stream in every stream of hyper-connections; None of a single stream."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingShare:
    """How much of the stream after one layer is still the embedding, token by token."""

    share: PerToken
    """``<resid_post, embed> / |resid_post|^2``: the embedding's additive part of the stream. The
    same term of every write so far and this one sum to 1; one alone may be negative or exceed 1."""
    cosine: PerToken
    """``<resid_post, embed> / (|resid_post| |embed|)``."""
    parts: Mapping[str, PerToken]
    """The same share of the word part, the n-gram part, every order and every table; they add up
    to ``share``. Empty without tables."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstLayer:
    """Inner products of e = ``embed`` and w, all that is written up to the end of layer 0."""

    embed_sq: PerToken
    """``<e, e>``."""
    cross: PerToken
    """``<e, w>``."""
    write_sq: PerToken
    """``<w, w>``."""
    normed_sq: PerToken
    """``<n, n>`` of n = LayerNorm of e, with unit gain."""
    normed_cross: PerToken
    """``<n, w>``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamNorms:
    """Everything measured; per-token arrays have one row per window."""

    sublayers: tuple[SublayerNorms, ...]
    shares: tuple[EmbeddingShare, ...]
    """One per layer."""
    first_layer: FirstLayer
    embed: PerToken
    """Norm of the embedding."""
    embed_parts: Mapping[str, PerToken]
    """Norm of every part of it (``EmbeddingShare.parts``)."""
    closure: Closure
    """The worst of all windows."""


def measure(
    structure: Structure,
    run: Callable[[Int64[Tensor, "1 T"]], object],
    windows: Int64[np.ndarray, "W T"],
    *,
    device: torch.device,
    done: Callable[[], object],
    together: bool = False,
) -> StreamNorms:
    """Run every window and follow its stream; ``done`` is called after each.

    ``together`` takes all windows through a layer before the next one (``turns.layer_by_layer``):
    the same numbers, and a streamed model's layers are read once.

    Raises:
        NoResultError: the stream does not close (``stream.Stream``).
    """
    passes = [_Pass(stream=Stream(structure), norms={}) for _ in windows]
    current = 0

    def turn(index: int) -> None:
        nonlocal current
        current = index

    def job(window: Int64[np.ndarray, " T"]) -> None:
        with torch.inference_mode():
            run(torch.from_numpy(window[None]).to(device))
        done()

    jobs = [partial(job, window) for window in windows]
    with _hooked(structure, lambda: passes[current]):
        if together and len(jobs) > 1:
            layer_by_layer([parts.layer for parts in structure.layers], jobs, turn)
        else:
            for index, run_window in enumerate(jobs):
                turn(index)
                run_window()
    return _stack(structure, [p.stream for p in passes], [p.norms for p in passes])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pass:
    """One window."""

    stream: Stream
    norms: dict[str, Tensor]
    """Of the embedding and its parts."""


@contextmanager
def _hooked(structure: Structure, now: Callable[[], _Pass]) -> Iterator[None]:
    """Feed the pass that runs ``now``."""
    with ExitStack() as stack:
        parts = EmbeddingParts(structure.embed_tokens)
        injected: dict[nn.Module, Tensor] = {}

        def on_input(module: nn.Module, call: Callable[[Tensor], None]) -> None:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                call(rows_of(args[0] if args else kwargs["hidden_states"]))

            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

        def on_output(module: nn.Module, call: Callable[[object], None]) -> None:
            def hook(module: nn.Module, args: object, output: object) -> None:
                call(output)

            stack.callback(module.register_forward_hook(hook).remove)

        def start(output: object) -> None:
            embed = rows_of(output)
            found = parts.parts(embed)
            now().norms["embed"] = norm_of(embed)
            now().norms.update({name: norm_of(part) for name, part in found.items()})
            now().stream.start(embed, found)

        def inject(module: nn.Module, output: object) -> None:
            assert isinstance(output, tuple)
            injected[module] = rows_of(output[-1])

        def enter(index: int, rows: Tensor) -> None:
            now().stream.enter_layer(index, rows)

        def read(write: Write, rows: Tensor) -> None:
            now().stream.read(write, rows)

        def add(write: Write, output: object) -> None:
            weights = None if write.injection is None else injected.pop(write.injection)
            now().stream.add(write, rows_of(output), weights)

        stack.enter_context(parts.hooked())
        on_output(structure.embed_tokens, start)
        for index, layer in enumerate(structure.layers):
            on_input(layer.layer, partial(enter, index))
        for write in structure.writes:
            if write.reads is not None:
                on_input(write.reads, partial(read, write))
            if write.injection is not None:
                on_output(write.injection, partial(inject, write.injection))
            on_output(write.module, partial(add, write))
        on_input(structure.norm, lambda rows: now().stream.finish(rows))
        yield


def _stack(
    structure: Structure, passes: Sequence[Stream], norms: Sequence[Mapping[str, Tensor]]
) -> StreamNorms:
    embed = _by_window(norms)
    by_stream = _by_window([p.ratios_by_stream for p in passes])
    return StreamNorms(
        sublayers=tuple(
            SublayerNorms(
                name=write.name,
                kind=write.kind,
                added_to=write.added_to,
                ratio_by_stream=by_stream.get(write.name),
                **_by_window([p.writes[write.name] for p in passes]),
            )
            for write in structure.writes
        ),
        shares=tuple(
            EmbeddingShare(
                parts=_by_window([p.part_shares[layer] for p in passes]),
                **_by_window([p.shares[layer] for p in passes]),
            )
            for layer in range(len(structure.layers))
        ),
        first_layer=FirstLayer(**_by_window([p.first_layer for p in passes])),
        embed=embed.pop("embed"),
        embed_parts=embed,
        closure=max((p.closure for p in passes), key=lambda c: c.max_relative_error),
    )


def _by_window(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, PerToken]:
    """Per key of the first, the (T,) tensors of all windows as one (W, T) array."""
    return {key: torch.stack([row[key] for row in rows]).cpu().numpy() for key in rows[0]}
