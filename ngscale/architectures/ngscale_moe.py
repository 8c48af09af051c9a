"""ngscale's own decoder: RMSNorm, RoPE, grouped-query attention, top-k SwiGLU experts."""

from dataclasses import asdict, dataclass, replace

from ngscale.architectures.hf_keys import decoder_spec
from ngscale.config_reader import ConfigReader
from ngscale.errors import SpecError
from ngscale.model_spec import (
    ExpertKeys,
    Experts,
    FeedForward,
    GroupedAttention,
    Layer,
    ModelSpec,
)
from ngscale.ngram_config import DECODER_MODEL_TYPE

MODEL_TYPES = (DECODER_MODEL_TYPE,)
KEYS = ExpertKeys(
    num_experts="num_experts",
    top_k="num_experts_per_tok",
    intermediate_size="moe_intermediate_size",
)


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

    def __post_init__(self) -> None:
        """Refuse head and expert counts that cannot be built."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_experts:
            raise SpecError(
                f"num_experts_per_tok {self.num_experts_per_tok} exceeds "
                f"num_experts {self.num_experts}"
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


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a config.json of ngscale's decoder."""
    if reader.flag("tie_word_embeddings"):
        raise reader.fail("tie_word_embeddings", "true is not understood; only false is")
    return replace(decoder_model(_keys(reader)), config=dict(reader.values))


def _keys(reader: ConfigReader) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=reader.whole("vocab_size"),
        hidden_size=reader.whole("hidden_size"),
        num_hidden_layers=reader.whole("num_hidden_layers"),
        num_attention_heads=reader.whole("num_attention_heads"),
        num_key_value_heads=reader.whole("num_key_value_heads"),
        head_dim=reader.whole("head_dim"),
        moe_intermediate_size=reader.whole("moe_intermediate_size"),
        num_experts=reader.whole("num_experts"),
        num_experts_per_tok=reader.whole("num_experts_per_tok"),
        rope_theta=reader.number("rope_theta", default=10_000.0),
        rms_norm_eps=reader.number("rms_norm_eps", default=1e-6),
    )


def decoder_model(keys: DecoderConfig) -> ModelSpec:
    """The model of these keys."""
    config = {"model_type": DECODER_MODEL_TYPE, **asdict(keys), "tie_word_embeddings": False}
    D = keys.hidden_size
    layer = Layer(
        attentions=(
            GroupedAttention(
                hidden_size=D,
                num_heads=keys.num_attention_heads,
                num_kv_heads=keys.num_key_value_heads,
                head_dim=keys.head_dim,
            ),
        ),
        experts=Experts(
            expert=FeedForward(hidden_size=D, intermediate_size=keys.moe_intermediate_size),
            num_experts=keys.num_experts,
            top_k=keys.num_experts_per_tok,
        ),
        norm_parameters=2 * D,
    )
    reader = ConfigReader(config, "model")
    return decoder_spec(reader, [layer] * keys.num_hidden_layers, expert_keys=KEYS)
