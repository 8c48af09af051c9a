"""Llama and the dense decoders that differ from it by a bias, a norm of heads, a window or a tie.

Shapes of transformers' modeling files of the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, windows
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import FeedForward, Layer, ModelSpec


def _no_layer(reader: ConfigReader) -> Callable[[int], bool]:
    return lambda _: False


def _every_layer(reader: ConfigReader) -> Callable[[int], bool]:
    return lambda _: True


def late_layers(reader: ConfigReader) -> Callable[[int], bool]:
    """Qwen: layers from ``max_window_layers`` on, if ``use_sliding_window`` is true."""
    first = reader.whole("max_window_layers", minimum=0, default=28)
    return lambda index: reader.flag("use_sliding_window") and index >= first


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a family of this shape does its own way."""

    qkv_bias: bool | str = False
    """A key of config.json where it decides."""
    o_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: Literal["none", "head", "full"] = "none"
    slides: Callable[[ConfigReader], Callable[[int], bool]] = _no_layer
    ties: bool = False
    """The family's default of ``tie_word_embeddings``."""
    default_head_dim: int | None = None


FAMILIES = {
    "llama": Traits(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"),
    "mistral": Traits(slides=_every_layer),
    "qwen2": Traits(qkv_bias=True, slides=late_layers),
    "qwen3": Traits(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        qk_norm="head",
        slides=late_layers,
        default_head_dim=128,
    ),
}
MODEL_TYPES = tuple(FAMILIES)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of one of ``FAMILIES``."""
    traits = FAMILIES[reader.model_type or ""]

    def bias(given: bool | str) -> bool:
        return reader.flag(given) if isinstance(given, str) else given

    hidden_size = reader.whole("hidden_size")
    ffn = FeedForward(
        hidden_size=hidden_size,
        intermediate_size=reader.whole("intermediate_size"),
        bias=bias(traits.mlp_bias),
    )
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(
                    grouped_attention(
                        reader,
                        window=window,
                        qk_norm=traits.qk_norm,
                        qkv_bias=bias(traits.qkv_bias),
                        o_bias=bias(traits.o_bias),
                        default_head_dim=traits.default_head_dim,
                    ),
                ),
                ffns=(ffn,),
                norm_parameters=2 * hidden_size,
            )
            for window in windows(reader, traits.slides(reader))
        ),
        ties=traits.ties,
    )
