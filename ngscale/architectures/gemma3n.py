"""Gemma 3n: per-layer embeddings, AltUp, Laurel, and late layers that share keys and values.

Shapes of transformers' ``gemma3n``, the text model; vision and audio towers are not counted.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import decoder_spec, grouped_attention, windows
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import FeedForward, GroupedAttention, Layer, ModelSpec

MODEL_TYPES = ("gemma3n_text",)
IGNORED = frozenset(
    (
        "activation_sparsity_pattern",
        "altup_active_idx",
        "altup_coef_clip",
        "altup_correct_scale",
    )
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of the ``text_config`` of a Gemma 3n config.json."""
    D = reader.whole("hidden_size")
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    width = reader.whole("hidden_size_per_layer_input")
    streams, rank = reader.whole("altup_num_inputs"), reader.whole("laurel_rank")
    num_shared = reader.whole("num_kv_shared_layers", minimum=0, maximum=num_layers - 1)
    bias = reader.flag("attention_bias")
    attention = grouped_attention(
        reader, qk_norm="head", qkv_bias=bias, o_bias=bias, default_head_dim=256
    )
    # AltUp: coefficients for correction and prediction, router, its norm, output scale;
    # Laurel: two matrices and a norm; the gate, projection and norm of the per-layer embedding
    altup = streams * streams + streams**3 + streams * D + 2 * D
    mixing = altup + (2 * rank * D + D) + (2 * width * D + D)
    sizes = _intermediate_sizes(reader, num_layers)
    of_layers = windows(reader, lambda index: (index + 1) % 5 != 0)
    layers = (
        Layer(
            attentions=(
                replace(
                    attention if index < num_layers - num_shared else _sharing(attention),
                    window=window,
                ),
            ),
            ffns=(FeedForward(hidden_size=D, intermediate_size=size),),
            norm_parameters=4 * D,
            extra=(("residual_mixing", mixing),),
        )
        for index, (window, size) in enumerate(zip(of_layers, sizes, strict=True))
    )
    joint = num_layers * width
    return decoder_spec(
        reader,
        layers,
        ties=True,
        extra=(
            ("per_layer_embedding", reader.whole("vocab_size_per_layer_input") * joint),
            # its projection from the word embedding and a norm; AltUp's projections in and out
            ("residual_mixing", joint * D + width + 2 * (streams - 1) * D * D),
        ),
    )


def _sharing(attention: GroupedAttention) -> GroupedAttention:
    """Without keys and values of its own, nor a norm of keys."""
    return replace(
        attention,
        projects_kv=False,
        caches_kv=False,
        norm_parameters=attention.norm_parameters // 2,
    )


def _intermediate_sizes(reader: ConfigReader, num_layers: int) -> tuple[int, ...]:
    """One for all layers, or one for each."""
    key = "intermediate_size"
    if not isinstance(reader.values.get(key), list):
        return (reader.whole(key),) * num_layers
    sizes = reader.wholes(key)
    if len(sizes) != num_layers:
        raise reader.fail(key, f"needs {num_layers} sizes, got {len(sizes)}")
    return sizes
