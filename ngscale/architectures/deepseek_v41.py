"""DeepSeek-V4.1: layers that share compressed keys and what the indexer picked, and Engram.

Shapes of the ``deepseek_v41`` modules of mlx-vlm 0.7.10, a port of the released checkpoint; the
vision tower and the MTP layers are not counted. The ``engram_*`` keys are read by
``ngram_config``.
"""

from dataclasses import replace

from ngscale.architectures.deepseek_v3 import KEYS, shared_and_routed
from ngscale.architectures.deepseek_v4 import hyper_connection, local_attention
from ngscale.architectures.hf_keys import decoder_spec
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import CompressedAttention, Indexer, Layer, ModelSpec, NgramGate
from ngscale.spec import NgramSpec

MODEL_TYPES = ("deepseek_v41",)
IGNORED = frozenset(
    (
        "candidate_block_size",
        "candidate_source_layer_id",
        "candidate_topk_blocks",
        "compress_rope_theta",
        "engram_pad_token_id",
        "hc_eps",
        "hc_sinkhorn_iters",
        "num_nextn_predict_layers",
        "qk_rope_head_dim",
    )
)


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a DeepSeek-V4.1 config.json."""
    if reader.flag("attention_bias"):
        raise reader.fail("attention_bias", "true is not understood; only false is")
    reader.whole("num_key_value_heads", maximum=1, default=1)
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    hidden_size = reader.whole("hidden_size")
    streams = reader.whole("hc_mult")
    rates = reader.wholes("compress_ratios", minimum=0)
    if len(rates) < num_layers:  # behind them are those of the MTP layers
        raise reader.fail("compress_ratios", f"needs {num_layers} rates, got {len(rates)}")
    connection = hyper_connection(streams * hidden_size, (2 + streams) * streams, 3)
    experts = shared_and_routed(reader, router_biases=2)  # of text and of images
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(_attention(reader, index, rates[index]),),
                experts=experts,
                norm_parameters=2 * hidden_size,
                extra=(("residual_mixing", 2 * connection),),
            )
            for index in range(num_layers)
        ),
        expert_keys=KEYS,
    )


def _attention(reader: ConfigReader, index: int, rate: int) -> CompressedAttention:
    """A source of keys has a compressor (with a gate where it compresses), a source of indices an
    indexer; every other layer reads those of the source before it.
    """
    local = local_attention(reader)
    is_source = index in reader.wholes("kv_source_layer_ids", minimum=0)
    is_scorer = index in reader.wholes("index_source_layer_ids", minimum=0)
    if not rate and (is_source or is_scorer):
        raise reader.fail("compress_ratios", f"layer {index} is a source, so must not have 0")
    projection = local.hidden_size * local.head_dim
    return replace(
        local,
        compress_rate=rate,
        compressor_parameters=projection * (1 + (rate > 1)) * is_source,
        compressor_other_parameters=local.head_dim * is_source,
        caches_compressed=is_source,
        indexer=_indexer(reader, rate, has_keys=is_source) if is_scorer else None,
    )


def _indexer(reader: ConfigReader, rate: int, *, has_keys: bool) -> Indexer:
    """Queries from the low rank, a weight a head; keys, with a norm, from the compressed ones."""
    num_heads, head_dim = reader.whole("index_n_heads"), reader.whole("index_head_dim")
    query = reader.whole("q_lora_rank") * num_heads * head_dim
    weights = reader.whole("hidden_size") * num_heads
    return Indexer(
        num_heads=num_heads,
        head_dim=head_dim,
        matmul_parameters=query + weights + reader.whole("head_dim") * head_dim * has_keys,
        other_parameters=head_dim * has_keys,
        top_k=reader.whole("index_topk"),
        compress_rate=rate,
        caches_keys=has_keys,
    )


def read_gates(reader: ConfigReader, specs: tuple[NgramSpec, ...]) -> tuple[NgramGate, ...]:
    """One fused projection without bias: a key for every stream and a value; no convolution."""
    return tuple(
        NgramGate(
            hidden_size=reader.whole("hidden_size"),
            joint_width=spec.num_tables * reader.whole("engram_head_dim"),
            num_streams=reader.whole("hc_mult"),
        )
        for spec in specs
    )
