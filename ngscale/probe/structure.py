"""Where a decoder's residual stream starts, is written to and ends: found by structure."""

from dataclasses import dataclass

from torch import nn

from ngscale.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerParts:
    """One layer, and the modules whose outputs are what it adds to the stream."""

    layer: nn.Module
    attn_out: nn.Module
    mlp_out: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Structure:
    """What is hooked. Whether these are all the writes, the closure check decides."""

    backbone: nn.Module
    """The module that holds the other parts; running it runs the whole stream."""
    embed_tokens: nn.Module
    layers: tuple[LayerParts, ...]
    norm: nn.Module


def find_structure(model: nn.Module, source: str) -> Structure:
    """The first module of ``model`` that holds ``embed_tokens``, ``layers`` and ``norm``.

    Raises:
        InputError: names the modules that could not be found; ``source`` is what it calls the
            checkpoint.
    """
    backbone = next((m for m in model.modules() if _is_stack(m)), None)
    if backbone is None:
        raise InputError(f"{source}: {_problem(model, 'list of modules `layers`')}")
    for name in ("embed_tokens", "norm"):
        if not _is_part(backbone, name):
            raise InputError(f"{source}: {_problem(model, f'`{name}` beside `layers`')}")
    layers = backbone.get_submodule("layers")
    for index, layer in layers.named_children():
        for name in ("self_attn", "mlp"):
            if not _is_part(layer, name):
                raise InputError(f"{source}: {_problem(model, f'layers.{index}.{name}')}")
    return Structure(
        backbone=backbone,
        embed_tokens=backbone.get_submodule("embed_tokens"),
        layers=tuple(_layer_parts(layer) for layer in layers.children()),
        norm=backbone.get_submodule("norm"),
    )


def _layer_parts(layer: nn.Module) -> LayerParts:
    """``self_attn`` and ``mlp`` write, or the norms behind them (Gemma 2 and 3, OLMo 2)."""
    post_norm = _is_part(layer, "post_feedforward_layernorm")
    attn, mlp = (
        ("post_attention_layernorm", "post_feedforward_layernorm")
        if post_norm
        else ("self_attn", "mlp")
    )
    return LayerParts(
        layer=layer, attn_out=layer.get_submodule(attn), mlp_out=layer.get_submodule(mlp)
    )


def _is_stack(module: nn.Module) -> bool:
    layers = getattr(module, "layers", None)
    return isinstance(layers, nn.ModuleList) and len(layers) > 0


def _is_part(module: nn.Module, name: str) -> bool:
    """Whether ``name`` is a module that runs; a ModuleList (two attentions, say) does not."""
    part = getattr(module, name, None)
    return isinstance(part, nn.Module) and not isinstance(part, nn.ModuleList)


def _problem(model: nn.Module, missing: str) -> str:
    return (
        f"{type(model).__name__} has no {missing}; probe reads decoders built of embed_tokens, "
        "layers[i].self_attn, layers[i].mlp and norm"
    )
