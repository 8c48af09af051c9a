"""Where a decoder's residual stream starts, is written to and ends: found by structure.

Only names are compared, in the orders below; whether what was found is all that is added, and in
which order, the closure check decides on every run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ngscale.errors import InputError

_STACKS = ("layers", "h")
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in")
_POSITIONS = ("wpe",)
_FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "hyper_connection_mixer")
_ATTENTION = ("self_attn", "attn", "attention", "linear_attn")
_MLP = ("mlp", "feed_forward", "block_sparse_moe")
_POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),  # Gemma 2 and 3, OLMo 2
    ("post_self_attn_layernorm", "post_mlp_layernorm"),  # GLM 4
)
"""Norms behind attention and MLP: where they are, it is what they put out that is added."""
_MLP_NORMS = ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2")
"""What the MLP reads the stream through."""
_NGRAM = ("ple", "ngram")
"""Writes n-grams into the stream before the layer's attention (Qwen3.8; our own)."""

Kind = Literal["position", "ngram", "attention", "mlp", "moe"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Write:
    """A module whose output is added to the stream."""

    name: str
    """``L0_attn_out``, or ``L1_attn0`` in shortcut blocks."""
    kind: Kind
    added_to: str
    """The stream before it, by name: ``L0_resid_pre``."""
    module: nn.Module
    reads: nn.Module | None = None
    """The module between the stream and this one, whose input must be the stream."""
    injection: nn.Module | None = None
    """Hyper-connections: the module whose last output is the weight of the write per stream."""
    parallel: bool = False
    """Whether it reads and is added to the layer's input, as the attention is."""

    @property
    def deferred(self) -> bool:
        """Whether it is added at the layer's end, behind all others, as a shortcut's experts."""
        return self.kind == "moe"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerParts:
    """One layer, and what it adds to the stream, in the order of addition."""

    layer: nn.Module
    writes: tuple[Write, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """What is hooked. Whether these are all the writes, the closure check decides."""

    backbone: nn.Module
    """The module that holds the other parts; running it runs the whole stream."""
    embed_tokens: nn.Module
    positions: Write | None
    """GPT-2's learned positions, added to the embedding before the first layer."""
    layers: tuple[LayerParts, ...]
    norm: nn.Module
    num_streams: int = 1
    """Of hyper-connections; the embedding starts each."""

    @property
    def writes(self) -> tuple[Write, ...]:
        """All of them, in the order of addition."""
        first = () if self.positions is None else (self.positions,)
        return first + tuple(write for parts in self.layers for write in parts.writes)


def find_structure(model: nn.Module, source: str) -> Structure:
    """The first module of ``model`` that holds an embedding, layers and a final norm.

    Raises:
        InputError: names the modules that could not be found; ``source`` is what it calls the
            checkpoint.
    """
    backbone, layers = next(_stacks(model), (None, None))
    if backbone is None or layers is None:
        raise InputError(f"{source}: {_problem(model, 'list of modules `layers` (or `h`)')}")
    embed, norm = _part(backbone, _EMBEDDINGS), _part(backbone, _FINAL_NORMS)
    for names, found in ((_EMBEDDINGS, embed), (_FINAL_NORMS, norm)):
        if found is None:
            raise InputError(f"{source}: {_problem(model, f'{_any_of(names)} beside its layers')}")
    assert embed is not None
    assert norm is not None
    positions = _part(backbone, _POSITIONS)
    parts = []
    for index, layer in enumerate(layers.children()):
        if missing := _missing(layer):
            raise InputError(f"{source}: {_problem(model, f'layers.{index}.{missing}')}")
        parts.append(_shortcut(index, layer) if _is_shortcut(layer) else _standard(index, layer))
    streams = getattr(norm, "hc_count", 1)
    return Structure(
        backbone=backbone,
        embed_tokens=embed,
        positions=None
        if positions is None
        else Write(name="pos_embed", kind="position", added_to="embed", module=positions),
        layers=tuple(parts),
        norm=norm,
        num_streams=streams if isinstance(streams, int) else 1,
    )


def _stacks(model: nn.Module) -> Iterator[tuple[nn.Module, nn.ModuleList]]:
    for module in model.modules():
        for name in _STACKS:
            layers = getattr(module, name, None)
            if isinstance(layers, nn.ModuleList) and len(layers) > 0:
                yield module, layers


def _missing(layer: nn.Module) -> str | None:
    """What a layer has not got, to be told."""
    if _is_shortcut(layer):
        lists = (layer.get_submodule("self_attn"), layer.get_submodule("mlps"))
        return None if all(len(list(part.children())) == 2 for part in lists) else "mlps of two"
    if _part(layer, _ATTENTION) is None:
        return _any_of(_ATTENTION)
    return _any_of(_MLP) if _part(layer, _MLP) is None else None


def _is_shortcut(layer: nn.Module) -> bool:
    """LongCat-Flash's: two attentions and two dense blocks in lists, and the experts beside."""
    lists = (getattr(layer, "self_attn", None), getattr(layer, "mlps", None))
    return all(isinstance(part, nn.ModuleList) for part in lists) and (
        _part(layer, ("mlp",)) is not None
    )


def _standard(index: int, layer: nn.Module) -> LayerParts:
    name = f"L{index}"
    attention, mlp = _part(layer, _ATTENTION), _part(layer, _MLP)
    assert attention is not None
    assert mlp is not None
    after_attention, after_mlp = next(
        (
            (first, second)
            for first, second in (_pair(layer, names) for names in _POST_NORMS)
            if first is not None and second is not None
        ),
        (None, None),
    )
    parallel = _is_parallel(layer)
    mlp_norm = _part(layer, tuple(n for n in _MLP_NORMS if _part(layer, (n,)) != after_attention))
    hyper = _pair(layer, ("attn_hyper_connection", "mlp_hyper_connection"))
    pre = f"{name}_resid_pre"
    attention_write = Write(
        name=f"{name}_attn_out",
        kind="attention",
        added_to=pre,
        module=after_attention or attention,
        reads=hyper[0],
        injection=hyper[0],
    )
    mlp_write = Write(
        name=f"{name}_mlp_out",
        kind="mlp",
        added_to=pre if parallel else f"{name}_resid_mid",
        module=after_mlp or mlp,
        reads=hyper[1] or mlp_norm or (None if parallel else mlp),
        injection=hyper[1],
        parallel=parallel,
    )
    return LayerParts(layer=layer, writes=(*_ngram(name, layer), attention_write, mlp_write))


def _shortcut(index: int, layer: nn.Module) -> LayerParts:
    """Layers count from 1, as in Fig. 5 of arXiv:2601.21204: L1_attn0, L1_mlp0, L1_attn1, ..."""
    name = f"L{index + 1}"

    def write(kind: Kind, written: str, module: str, reads: str | None, before: str) -> Write:
        return Write(
            name=f"{name}_{written}",
            kind=kind,
            added_to=f"{name}_{before}",
            module=layer.get_submodule(module),
            reads=reads and layer.get_submodule(reads),  # type: ignore[arg-type]
        )

    return LayerParts(
        layer=layer,
        writes=(
            *_ngram(name, layer),
            write("attention", "attn0", "self_attn.0", None, "resid_pre"),
            write("mlp", "mlp0", "mlps.0", "post_attention_layernorm.0", "resid_mid0"),
            write("attention", "attn1", "self_attn.1", "input_layernorm.1", "resid_post0"),
            write("mlp", "mlp1", "mlps.1", "post_attention_layernorm.1", "resid_mid1"),
            write("moe", "moe", "mlp", None, "resid_post1"),
        ),
    )


def _ngram(name: str, layer: nn.Module) -> tuple[Write, ...]:
    module = _part(layer, _NGRAM)
    if module is None:
        return ()
    return (Write(name=f"{name}_ngram", kind="ngram", added_to=f"{name}_resid_in", module=module),)


def _is_parallel(layer: nn.Module) -> bool:
    """As GPT-NeoX says of itself; a layer with a single norm (GPT-J, Cohere, Phi) has to be."""
    said = getattr(layer, "use_parallel_residual", None)
    if isinstance(said, bool):
        return said
    norms = [n for n, _ in layer.named_children() if "norm" in n or n.startswith("ln_")]
    return norms in (["input_layernorm"], ["ln_1"])


def _part(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """The first of ``names`` that is a module that runs; a ModuleList (two attentions) does not."""
    for name in names:
        part = getattr(module, name, None)
        if isinstance(part, nn.Module) and not isinstance(part, nn.ModuleList):
            return part
    return None


def _pair(module: nn.Module, names: tuple[str, str]) -> tuple[nn.Module | None, nn.Module | None]:
    return _part(module, names[:1]), _part(module, names[1:])


def _any_of(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _problem(model: nn.Module, missing: str) -> str:
    return (
        f"{type(model).__name__} has no {missing}; probe reads decoders built of an embedding, "
        "layers with an attention and an MLP each, and a final norm"
    )
