"""ngscale's own decoder: RMSNorm, RoPE, grouped-query or latent attention, top-k SwiGLU experts."""

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from ngscale.architectures.hf_keys import decoder_spec
from ngscale.config_reader import MAX_LISTED, ConfigReader, told
from ngscale.errors import SpecError
from ngscale.model_spec import (
    Attention,
    ExpertKeys,
    Experts,
    FeedForward,
    GroupedAttention,
    LatentAttention,
    Layer,
    ModelSpec,
    NgramGate,
)
from ngscale.ngram_config import DECODER_MODEL_TYPE, explicit_blocks
from ngscale.spec import NgramSpec

MODEL_TYPES = (DECODER_MODEL_TYPE,)
KEYS = ExpertKeys(
    num_experts="num_experts",
    top_k="num_experts_per_tok",
    intermediate_size="moe_intermediate_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yarn:
    """Positions stretched for longer contexts (arXiv:2309.00071), as transformers computes them."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0
    """0: the temperature is that of ``factor`` alone."""

    @property
    def attention_factor(self) -> float:
        """Of cosines and sines: the paper's sqrt(1/t)."""
        if not self.mscale_all_dim:
            return self._temperature(1.0)
        return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)

    @property
    def latent_factor(self) -> float:
        """Of the products of queries and keys in latent attention, once more."""
        return self._temperature(self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    def _temperature(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def ramp(self, dim: int, theta: float) -> tuple[float, float]:
        """Pair j of ``dim / 2`` is stretched by a share of (j - first) / second, within 0 and 1."""
        length = self.original_max_position_embeddings

        def turning(times: float) -> float:
            """The pair that turns so often within the original length."""
            return dim * math.log(length / (times * 2 * math.pi)) / (2 * math.log(theta))

        low = max(math.floor(turning(self.beta_fast)), 0)
        high = min(math.ceil(turning(self.beta_slow)), dim - 1)
        return low, high - low or 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Its config.json, key by key."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_tok: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    block: Literal["standard", "shortcut"] = "standard"
    """A layer: attention and experts; or LongCat's two attention and two dense sub-layers, with the
    experts on a shortcut around the second pair (arXiv:2509.01322, sec. 2.2)."""
    intermediate_size: int = 0
    """Columns of the dense sub-layers of a shortcut layer."""
    num_zero_experts: int = 0
    """Experts without weights that return what they get; the router chooses from them too."""
    num_shared_experts: int = 0
    """Experts that are always on, kept as one block of so many times ``moe_intermediate_size``."""
    scoring_func: Literal["sigmoid", "softmax"] = "sigmoid"
    """Of the router's logits."""
    norm_topk_prob: bool = True
    """Whether the weights of the chosen experts are made to sum to 1."""
    routed_scaling_factor: float = 1.0
    """Times which the weights of the chosen experts are taken."""
    router_bias: bool = False
    """Whether the router's logits have a learned bias; the one that balances the load is apart."""
    router_aux_loss_coef: float = 0.0
    """Of the sequence-wise balance loss (arXiv:2412.19437, Eq. 17 to 20); 0: none."""
    attention: Literal["gqa", "mla"] = "gqa"
    """Grouped-query, or latent (arXiv:2405.04434), for which ``num_key_value_heads`` and
    ``head_dim`` say nothing."""
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    """The last five are of latent attention."""
    rope_scaling: Yarn | None = None
    mla_scale_lora: bool = False
    """Whether queries and the key-value latent are scaled by sqrt(hidden_size / rank), as in
    LongCat-Flash."""

    def __post_init__(self) -> None:
        """Refuse head and expert counts that cannot be built."""
        if self.block == "shortcut" and self.intermediate_size < 1:
            raise SpecError("intermediate_size: block shortcut has dense sub-layers and needs it")
        if self.block == "standard" and self.intermediate_size:
            raise SpecError("intermediate_size: block standard has no dense sub-layers")
        latent = {name: getattr(self, name) for name in _LATENT}
        if self.attention == "mla" and min(latent.values()) < 1:
            raise SpecError(f"attention mla needs {', '.join(latent)}, got {latent}")
        if self.attention == "gqa" and any(latent.values()):
            raise SpecError(f"attention gqa has none of {', '.join(latent)}, got {latent}")
        if self.qk_rope_head_dim % 2:
            raise SpecError(f"qk_rope_head_dim must be even, got {self.qk_rope_head_dim}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_experts + self.num_zero_experts:
            zero = f" + num_zero_experts {self.num_zero_experts}" if self.num_zero_experts else ""
            raise SpecError(
                f"num_experts_per_tok {self.num_experts_per_tok} exceeds "
                f"num_experts {self.num_experts}{zero}"
            )
        if self.head_dim % 2:
            raise SpecError(f"head_dim must be even for RoPE, got {self.head_dim}")

    @classmethod
    def of(cls, model: ModelSpec) -> "DecoderConfig":
        """The keys of a model of this family.

        Raises:
            SpecError: it is of another.
        """
        if model.model_type != DECODER_MODEL_TYPE:
            raise SpecError(
                f"only ngscale's own decoder ({DECODER_MODEL_TYPE}) can be built, "
                f"got {model.model_type}"
            )
        return _keys(ConfigReader(model.config, "model"))

    def as_config(self) -> dict[str, Any]:
        """Its keys in config.json: of those added to the first release, only the ones in use."""
        defaults = {field.name: field.default for field in fields(self)}
        config = {
            key: value
            for key, value in asdict(self).items()
            if key in _ALWAYS or defaults[key] is MISSING or value != defaults[key]
        }
        if self.rope_scaling is not None:
            config["rope_scaling"] = {"rope_type": "yarn", **asdict(self.rope_scaling)}
        return config


_ALWAYS = ("rope_theta", "rms_norm_eps")
_LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a config.json of ngscale's decoder."""
    if reader.flag("tie_word_embeddings"):
        raise reader.fail("tie_word_embeddings", "true is not understood; only false is")
    return replace(decoder_model(_keys(reader)), config=dict(reader.values))


def _keys(reader: ConfigReader) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=reader.whole("vocab_size"),
        hidden_size=reader.whole("hidden_size"),
        num_hidden_layers=reader.whole("num_hidden_layers", maximum=MAX_LISTED),
        num_attention_heads=reader.whole("num_attention_heads"),
        num_key_value_heads=reader.whole("num_key_value_heads"),
        head_dim=reader.whole("head_dim"),
        moe_intermediate_size=reader.whole("moe_intermediate_size"),
        num_experts=reader.whole("num_experts"),
        num_experts_per_tok=reader.whole("num_experts_per_tok", maximum=MAX_LISTED),
        rope_theta=reader.number("rope_theta", default=10_000.0),
        rms_norm_eps=reader.number("rms_norm_eps", default=1e-6),
        block=reader.word("block", ("standard", "shortcut")),
        intermediate_size=reader.whole("intermediate_size", minimum=0, default=0),
        num_zero_experts=reader.whole("num_zero_experts", minimum=0, default=0),
        num_shared_experts=reader.whole("num_shared_experts", minimum=0, default=0),
        scoring_func=reader.word("scoring_func", ("sigmoid", "softmax")),
        norm_topk_prob=reader.flag("norm_topk_prob", default=True),
        routed_scaling_factor=reader.number("routed_scaling_factor", default=1.0),
        router_bias=reader.flag("router_bias"),
        router_aux_loss_coef=_coefficient(reader, "router_aux_loss_coef"),
        attention=reader.word("attention", ("gqa", "mla")),
        **{name: reader.whole(name, minimum=0, default=0) for name in _LATENT},
        rope_scaling=read_yarn(reader, "rope_scaling"),
        mla_scale_lora=reader.flag("mla_scale_lora"),
    )


def read_yarn(reader: ConfigReader, key: str) -> Yarn | None:
    """``rope_scaling``, or ``rope_parameters`` of transformers 5; None where nothing is stretched.

    Raises:
        InputError: it is of another kind than ``yarn``, or has keys that are not read.
    """
    if not reader.values.get(key):
        return None
    rope = reader.object(key)
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    if kind == "default":
        return None
    if kind != "yarn":
        raise rope.fail("rope_type", f"must be default or yarn, got {told(kind)}")
    numbers = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim")
    lengths = ("factor", "original_max_position_embeddings")
    rope.only(("rope_type", "type", "rope_theta", *lengths, *numbers))
    return Yarn(
        factor=rope.number("factor"),
        original_max_position_embeddings=rope.whole("original_max_position_embeddings"),
        **{name: rope.number(name) for name in numbers if rope.values.get(name)},
    )


def _coefficient(reader: ConfigReader, key: str) -> float:
    return reader.number(key, default=0.0) if reader.values.get(key) else 0.0


def read_gates(reader: ConfigReader, specs: tuple[NgramSpec, ...]) -> tuple[NgramGate, ...]:
    """Engram's readers, each of one residual stream."""
    hidden_size = reader.whole("hidden_size")
    return tuple(
        NgramGate(
            hidden_size=hidden_size,
            joint_width=spec.num_tables * (spec.row_width or hidden_size // spec.num_tables),
            conv_kernel=block.whole("conv_kernel", minimum=0, default=0),
        )
        for spec, block in zip(specs, explicit_blocks(reader), strict=True)
    )


def decoder_model(keys: DecoderConfig) -> ModelSpec:
    """The model of these keys."""
    config = {"model_type": DECODER_MODEL_TYPE, **keys.as_config(), "tie_word_embeddings": False}
    D = keys.hidden_size
    sublayers = 2 if keys.block == "shortcut" else 1
    dense = FeedForward(hidden_size=D, intermediate_size=keys.intermediate_size)
    shared = FeedForward(
        hidden_size=D, intermediate_size=keys.num_shared_experts * keys.moe_intermediate_size
    )
    layer = Layer(
        attentions=(_attention(keys),) * sublayers,
        ffns=(dense,) * 2 if keys.block == "shortcut" else (),
        experts=Experts(
            expert=FeedForward(hidden_size=D, intermediate_size=keys.moe_intermediate_size),
            num_experts=keys.num_experts,
            num_zero_experts=keys.num_zero_experts,
            top_k=keys.num_experts_per_tok,
            router_biases=int(keys.router_bias),
            shared=(shared,) if keys.num_shared_experts else (),
        ),
        norm_parameters=2 * sublayers * D,
    )
    reader = ConfigReader(config, "model")
    return decoder_spec(reader, [layer] * keys.num_hidden_layers, expert_keys=KEYS)


def _attention(keys: DecoderConfig) -> Attention:
    if keys.attention == "gqa":
        return GroupedAttention(
            hidden_size=keys.hidden_size,
            num_heads=keys.num_attention_heads,
            num_kv_heads=keys.num_key_value_heads,
            head_dim=keys.head_dim,
        )
    return LatentAttention(
        hidden_size=keys.hidden_size,
        num_heads=keys.num_attention_heads,
        **{name: getattr(keys, name) for name in _LATENT},
    )
