"""What most Hugging Face decoders call their sizes: heads, windows, the outer shape."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import (
    ExpertKeys,
    Experts,
    FeedForward,
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
    ModelSpec,
    runs,
)

LAYER_TYPES = ("full_attention", "sliding_attention")
REPEATED_BY_MLA = frozenset(("head_dim", "num_key_value_heads", "qk_head_dim"))
"""Keys of exports with MLA that say again, or otherwise, what its own keys say."""


def grouped_attention(
    reader: ConfigReader,
    *,
    window: int | None = None,
    qk_norm: Literal["none", "head", "full"] = "none",
    qkv_bias: bool = False,
    o_bias: bool = False,
    default_head_dim: int | None = None,
) -> GroupedAttention:
    """``num_attention_heads``, ``num_key_value_heads`` (else as many) and ``head_dim`` (else the
    family's, else ``hidden_size // num_attention_heads``).

    ``qk_norm`` is over each head, with one weight for all, or over all heads' columns.
    """
    hidden_size = reader.whole("hidden_size")
    num_heads = reader.whole("num_attention_heads")
    num_kv_heads = reader.whole("num_key_value_heads", default=num_heads, null=True)
    if num_heads % num_kv_heads:
        raise reader.fail(
            "num_key_value_heads", f"{num_kv_heads} does not divide num_attention_heads {num_heads}"
        )
    head_dim = reader.whole(
        "head_dim", default=default_head_dim or hidden_size // num_heads, null=True
    )
    norms = {"none": 0, "head": 2 * head_dim, "full": (num_heads + num_kv_heads) * head_dim}
    return GroupedAttention(
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        qkv_bias=qkv_bias,
        o_bias=o_bias,
        norm_parameters=norms[qk_norm],
        window=window,
    )


def latent_attention(
    reader: ConfigReader, *, q_lora_rank: int | None, indexer: Indexer | None = None
) -> LatentAttention:
    """MLA, whose keys DeepSeek and LongCat share."""
    return LatentAttention(
        hidden_size=reader.whole("hidden_size"),
        num_heads=reader.whole("num_attention_heads"),
        q_lora_rank=q_lora_rank,
        kv_lora_rank=reader.whole("kv_lora_rank"),
        qk_nope_head_dim=reader.whole("qk_nope_head_dim"),
        qk_rope_head_dim=reader.whole("qk_rope_head_dim"),
        v_head_dim=reader.whole("v_head_dim"),
        bias=reader.flag("attention_bias"),
        indexer=indexer,
    )


def routed_experts(
    reader: ConfigReader,
    keys: ExpertKeys,
    *,
    bias: bool = False,
    router_biases: int = 0,
    num_zero_experts: int = 0,
) -> Experts:
    """The experts that these keys describe."""
    num_experts = reader.whole(keys.num_experts)
    top_k = reader.whole(keys.top_k, maximum=MAX_LISTED)
    if top_k > num_experts + num_zero_experts:
        zero = f" + {num_zero_experts} zero experts" if num_zero_experts else ""
        raise reader.fail(keys.top_k, f"{top_k} exceeds {keys.num_experts} {num_experts}{zero}")
    return Experts(
        expert=FeedForward(
            hidden_size=reader.whole("hidden_size"),
            intermediate_size=reader.whole(keys.intermediate_size),
            bias=bias,
        ),
        num_experts=num_experts,
        num_zero_experts=num_zero_experts,
        top_k=top_k,
        router_biases=router_biases,
    )


def windows(
    reader: ConfigReader,
    slides: Callable[[int], bool],
    *,
    names: Sequence[str] = LAYER_TYPES,
) -> list[int | None]:
    """The window of every layer: ``layer_types`` where given, else by the family's rule."""
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    types = reader.words("layer_types", names, num_layers)
    window = reader.whole("sliding_window", minimum=0, default=0, null=True) or None
    if types is not None:
        return [window if name == "sliding_attention" else None for name in types]
    return [window if slides(index) else None for index in range(num_layers)]


def decoder_spec(
    reader: ConfigReader,
    layers: Iterable[Layer],
    *,
    ties: bool = False,
    final_norm_parameters: int | None = None,
    expert_keys: ExpertKeys | None = None,
    mtp_layers: tuple[tuple[int, Layer], ...] = (),
    extra: tuple[tuple[str, int], ...] = (),
) -> ModelSpec:
    """The model around these layers; ``ties`` is the family's default of ``tie_word_embeddings``.

    The final norm is an RMSNorm where its parameters are not given.
    """
    hidden_size = reader.whole("hidden_size")
    return ModelSpec(
        model_type=reader.model_type or "",
        vocab_size=reader.whole("vocab_size"),
        hidden_size=hidden_size,
        layers=runs(layers),
        final_norm_parameters=(
            hidden_size if final_norm_parameters is None else final_norm_parameters
        ),
        ties_embeddings=reader.flag("tie_word_embeddings", default=ties),
        extra=extra,
        mtp_layers=mtp_layers,
        expert_keys=expert_keys,
        config=dict(reader.values),
    )
