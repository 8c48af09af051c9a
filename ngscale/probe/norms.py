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

from ngscale.probe.stream import Closure, Stream, rows_of
from ngscale.probe.structure import Structure

PerToken = Float64[np.ndarray, "W T"]
"""One number per window and position."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SublayerNorms:
    """One write, token by token."""

    name: str
    """``L0_attn``, ``L0_mlp``, ``L1_attn``, ..."""
    write: PerToken
    """L2 norm of the module's output, ``attn_out`` or ``mlp_out``."""
    stream: PerToken
    """L2 norm of what the write is added to, ``resid_pre`` or ``resid_mid``."""
    layer_input: PerToken
    """L2 norm of the layer's ``resid_pre``."""
    cosine: PerToken
    """Between write and stream; 0 where the write is 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingShare:
    """How much of the stream after one layer is still the embedding, token by token."""

    share: PerToken
    """``<resid_post, embed> / |resid_post|^2``: the embedding's additive part of the stream. The
    same term of every write so far and this one sum to 1; one alone may be negative or exceed 1."""
    cosine: PerToken
    """``<resid_post, embed> / (|resid_post| |embed|)``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FirstLayer:
    """Inner products of e = ``embed`` and w = ``attn_out + mlp_out`` of layer 0."""

    embed_sq: PerToken
    """``<e, e>``."""
    cross: PerToken
    """``<e, w>``."""
    write_sq: PerToken
    """``<w, w>``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamNorms:
    """Everything measured; per-token arrays have one row per window."""

    sublayers: tuple[SublayerNorms, ...]
    shares: tuple[EmbeddingShare, ...]
    """One per layer."""
    first_layer: FirstLayer
    closure: Closure
    """The worst of all windows."""


def measure(
    structure: Structure,
    run: Callable[[Int64[Tensor, "1 T"]], object],
    windows: Int64[np.ndarray, "W T"],
    *,
    device: torch.device,
    done: Callable[[], object],
) -> StreamNorms:
    """Run every window and follow its stream; ``done`` is called after each.

    Raises:
        NoResultError: the stream does not close (``stream.Stream``).
    """
    passes = []
    for window in windows:
        stream = Stream(len(structure.layers))
        with torch.inference_mode(), _hooked(structure, stream):
            run(torch.from_numpy(window[None]).to(device))
        passes.append(stream)
        done()
    return _stack(passes)


@contextmanager
def _hooked(structure: Structure, stream: Stream) -> Iterator[None]:
    """Feed ``stream`` while the model runs."""
    with ExitStack() as stack:

        def on_input(module: nn.Module, call: Callable[[Tensor], None]) -> None:
            def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                call(rows_of(args[0] if args else kwargs["hidden_states"]))

            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

        def on_output(module: nn.Module, call: Callable[[Tensor], None]) -> None:
            def hook(module: nn.Module, args: object, output: object) -> None:
                call(rows_of(output))

            stack.callback(module.register_forward_hook(hook).remove)

        on_output(structure.embed_tokens, stream.start)
        for index, parts in enumerate(structure.layers):
            on_input(parts.layer, partial(stream.enter_layer, index))
            on_output(parts.attn_out, partial(stream.add, f"L{index}_attn"))
            on_output(parts.mlp_out, partial(stream.add, f"L{index}_mlp"))
        on_input(structure.norm, stream.finish)
        yield


def _stack(passes: Sequence[Stream]) -> StreamNorms:
    return StreamNorms(
        sublayers=tuple(
            SublayerNorms(name=name, **_by_window([p.writes[name] for p in passes]))
            for name in passes[0].writes
        ),
        shares=tuple(
            EmbeddingShare(**_by_window([p.shares[layer] for p in passes]))
            for layer in range(passes[0].num_layers)
        ),
        first_layer=FirstLayer(**_by_window([p.first_layer for p in passes])),
        closure=max((p.closure for p in passes), key=lambda c: c.max_relative_error),
    )


def _by_window(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, PerToken]:
    """Per key, the (T,) tensors of all windows as one (W, T) array."""
    return {key: torch.stack([row[key] for row in rows]).cpu().numpy() for key in rows[0]}
