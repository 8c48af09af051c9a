"""Qwen3.8-Flash-Next (``qwen4_exp``): Qwen3-Next with hyper-connections and a sparse attention.

Shapes of transformers' ``qwen4_exp``, the text model; the vision tower is not counted, nor is the
MTP module, of which no key of config.json tells. Its n-gram tables are read by ``ngram_config``.
"""

from dataclasses import replace

from ngscale.architectures.hf_keys import decoder_spec
from ngscale.architectures.qwen2_moe import shared_experts
from ngscale.architectures.qwen3_moe import expert_keys
from ngscale.architectures.qwen3_next import delta_net, gated_attention, linear_layers
from ngscale.config_reader import ConfigReader
from ngscale.model_spec import Indexer, Layer, ModelSpec, NgramGate
from ngscale.spec import NgramSpec

MODEL_TYPES = ("qwen4_exp_text",)
IGNORED = frozenset(
    (
        "number_of_conv_states",
        "ple_conv_kernel_size",
        "split_ngram_parts",
    )
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of the ``text_config`` of a ``qwen4_exp`` config.json."""
    num_streams = reader.whole("hc_count", minimum=2)
    joint = num_streams * reader.whole("hidden_size")
    # norm, down and up of the low-rank mixer; the weights that add a block's output to the streams
    mixer = joint * (1 + 2 * reader.whole("hc_lowrank"))
    connection = mixer + joint * num_streams
    linear = delta_net(reader)
    sparse = replace(gated_attention(reader), indexer=_indexer(reader))
    experts = shared_experts(reader)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(linear if is_linear else sparse,),
                experts=experts,
                extra=(("residual_mixing", 2 * connection),),
            )
            for is_linear in linear_layers(reader)
        ),
        final_norm_parameters=0,
        extra=(("residual_mixing", mixer),),
        expert_keys=expert_keys(reader),
    )


def _indexer(reader: ConfigReader) -> Indexer:
    num_heads, head_dim = reader.whole("indexer_n_heads"), reader.whole("indexer_head_dim")
    columns = (num_heads + reader.whole("indexer_kv_heads", maximum=1)) * head_dim
    return Indexer(
        num_heads=num_heads,
        head_dim=head_dim,
        matmul_parameters=reader.whole("hidden_size") * columns,
        other_parameters=2 * head_dim,
        top_k=reader.whole("indexer_budget"),
        compress_rate=reader.whole("indexer_compress_ratio"),
    )


def read_gates(reader: ConfigReader, specs: tuple[NgramSpec, ...]) -> tuple[NgramGate, ...]:
    """The reader of every PLE layer's rows."""
    hidden_size = reader.whole("hidden_size")
    gate = NgramGate(
        hidden_size=hidden_size,
        joint_width=reader.whole("ple_embed_dim", default=hidden_size, null=True),
        num_streams=reader.whole("hc_count", minimum=2),
        conv_kernel=reader.whole("ple_conv_kernel_size", default=4),
    )
    return (gate,) * len(specs)
