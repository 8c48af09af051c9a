"""GPT-2: learned positions, biases everywhere, LayerNorms, a feed-forward without a gate.

Shapes of transformers' ``gpt2``.
"""

from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import FeedForward, GroupedAttention, Layer, ModelSpec

MODEL_TYPES = ("gpt2",)
IGNORED = frozenset(
    (
        "n_ctx",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    )
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a GPT-2 config.json."""
    hidden_size, num_heads = reader.whole("n_embd"), reader.whole("n_head")
    if hidden_size % num_heads:
        raise reader.fail("n_head", f"{num_heads} does not divide n_embd {hidden_size}")
    layer = Layer(
        attentions=(
            GroupedAttention(
                hidden_size=hidden_size,
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=hidden_size // num_heads,
                qkv_bias=True,
                o_bias=True,
            ),
        ),
        ffns=(
            FeedForward(
                hidden_size=hidden_size,
                intermediate_size=reader.whole("n_inner", default=4 * hidden_size, null=True),
                is_gated=False,
                bias=True,
            ),
        ),
        norm_parameters=4 * hidden_size,
    )
    return ModelSpec(
        model_type="gpt2",
        vocab_size=reader.whole("vocab_size"),
        hidden_size=hidden_size,
        layers=((reader.whole("n_layer", maximum=MAX_LISTED), layer),),
        final_norm_parameters=2 * hidden_size,
        ties_embeddings=reader.flag("tie_word_embeddings", default=True),
        position_parameters=reader.whole("n_positions") * hidden_size,
        config=dict(reader.values),
    )
