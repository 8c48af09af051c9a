"""Llama and the dense decoders that differ from it by a bias, a norm of heads, a window or a tie.

Shapes of transformers' modeling files of the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, windows
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import FeedForward, Layer, ModelSpec

Switch = bool | tuple[str, bool]
"""Always, never, or by a key of config.json, with the family's default."""
Slides = Callable[[ConfigReader], Callable[[int], bool]]
"""config.json -> which layers have the sliding window."""


def late_layers(reader: ConfigReader) -> Callable[[int], bool]:
    """Qwen: layers from ``max_window_layers`` on, if ``use_sliding_window`` is true."""
    first = reader.whole("max_window_layers", minimum=0, default=28)
    slides = reader.flag("use_sliding_window")
    return lambda index: slides and index >= first


def all_but_every(key: str, default: int) -> Slides:
    """All layers but every n-th, n by a key of config.json."""

    def slides(reader: ConfigReader) -> Callable[[int], bool]:
        n = reader.whole(key, default=default)
        return lambda index: (index + 1) % n != 0

    return slides


def _listed_layers(reader: ConfigReader) -> Callable[[int], bool]:
    """SmolLM3: those of ``layer_types``."""
    if reader.flag("use_sliding_window") and reader.values.get("layer_types") is None:
        raise reader.fail("use_sliding_window", "needs layer_types beside it")
    return lambda _: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a family of this shape does its own way."""

    qkv_bias: Switch = False
    o_bias: Switch = False
    mlp_bias: Switch = False
    gated: bool = True
    qk_norm: Literal["none", "head", "full"] = "none"
    slides: Slides = lambda _: lambda _: False
    ties: bool = False
    """The family's default of ``tie_word_embeddings``."""
    default_head_dim: int | None = None
    norm_vectors: int = 2
    """Vectors of ``hidden_size`` in a layer's norms; a bias is one, too."""
    final_norm_vectors: int = 1
    only: tuple[tuple[str, str], ...] = ()
    """(key, the one word of it that is understood)."""


_ATTENTION_BIAS = ("attention_bias", False)
_LLAMA = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, mlp_bias=("mlp_bias", False))
_GEMMA = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, ties=True, default_head_dim=256)
_OLMO2 = Traits(qkv_bias=_ATTENTION_BIAS, o_bias=_ATTENTION_BIAS, qk_norm="full")
FAMILIES = {
    "llama": _LLAMA,
    "mistral": Traits(slides=lambda _: lambda _: True),
    "qwen2": Traits(qkv_bias=True, slides=late_layers),
    "qwen3": Traits(
        qkv_bias=_ATTENTION_BIAS,
        o_bias=_ATTENTION_BIAS,
        qk_norm="head",
        slides=late_layers,
        default_head_dim=128,
    ),
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norm_vectors=4, slides=all_but_every("sliding_window_pattern", 2)),
    "gemma3_text": replace(
        _GEMMA,
        norm_vectors=4,
        qk_norm="head",
        slides=all_but_every("sliding_window_pattern", 6),
    ),
    "granite": _LLAMA,
    "smollm3": replace(_LLAMA, ties=True, slides=_listed_layers),
    "arcee": replace(_LLAMA, gated=False),
    "seed_oss": Traits(
        qkv_bias=("attention_bias", True),
        o_bias=("attention_out_bias", False),
        mlp_bias=("mlp_bias", False),
        default_head_dim=128,
    ),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, slides=all_but_every("sliding_window_pattern", 4)),
    "phi3": Traits(slides=lambda _: lambda _: True),
    "glm4": Traits(qkv_bias=("attention_bias", True), norm_vectors=4, default_head_dim=128),
    "starcoder2": Traits(
        qkv_bias=("use_bias", True),
        o_bias=("use_bias", True),
        mlp_bias=("use_bias", True),
        gated=False,
        slides=lambda _: lambda _: True,
        ties=True,
        norm_vectors=4,
        final_norm_vectors=2,
        only=(("mlp_type", "default"), ("norm_type", "layer_norm")),
    ),
}
MODEL_TYPES = tuple(FAMILIES)
IGNORED = frozenset(
    (
        "_sliding_window_pattern",
        "no_rope_layer_interval",
        "no_rope_layers",
        "sliding_window_pattern",
        "sliding_window_size",
        "use_bidirectional_attention",
    )
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of one of ``FAMILIES``."""
    traits = FAMILIES[reader.model_type or ""]

    def bias(switch: Switch) -> bool:
        return switch if isinstance(switch, bool) else reader.flag(switch[0], default=switch[1])

    for key, understood in traits.only:
        reader.word(key, (understood,))
    hidden_size = reader.whole("hidden_size")
    ffn = FeedForward(
        hidden_size=hidden_size,
        intermediate_size=reader.whole("intermediate_size"),
        is_gated=traits.gated,
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
                norm_parameters=traits.norm_vectors * hidden_size,
            )
            for window in windows(reader, traits.slides(reader))
        ),
        ties=traits.ties,
        final_norm_parameters=traits.final_norm_vectors * hidden_size,
    )
