"""DeepSeek-V4: compressed attention, hyper-connections, experts in every layer.

Shapes of transformers' ``deepseek_v4``. The first layers look their experts up by token id; that
table holds indices, not parameters. The MTP layer is not counted: its shapes are not there.
"""

from dataclasses import replace

from ngscale.architectures.deepseek_v3 import KEYS, shared_and_routed
from ngscale.architectures.hf_keys import decoder_spec
from ngscale.config_reader import MAX_LISTED, ConfigReader
from ngscale.model_spec import CompressedAttention, Indexer, Layer, ModelSpec

MODEL_TYPES = ("deepseek_v4",)
IGNORED = frozenset(
    (
        "compress_rope_theta",
        "hc_eps",
        "hc_sinkhorn_iters",
        "qk_rope_head_dim",
    )
)
_LOCAL, _SPARSE, _HEAVY = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
_RATES = {_LOCAL: 0, _SPARSE: 4, _HEAVY: 128}
"""Tokens compressed to one: ``compress_rates``' defaults, and the values of ``compress_ratios``."""


def read(reader: ConfigReader) -> ModelSpec:
    """The model of a DeepSeek-V4 config.json."""
    if reader.flag("attention_bias"):
        raise reader.fail("attention_bias", "true is not understood; only false is")
    hidden_size, streams = reader.whole("hidden_size"), reader.whole("hc_mult")
    reader.whole("num_key_value_heads", maximum=1, default=1)
    reader.whole("num_nextn_predict_layers", minimum=0, default=0)
    connection = hyper_connection(streams * hidden_size, (2 + streams) * streams, 3)
    routed = shared_and_routed(reader, shared_bias=reader.flag("mlp_bias"))
    hashed = replace(routed, router_biases=0)
    num_hashed = _num_hash_layers(reader)
    return decoder_spec(
        reader,
        (
            Layer(
                attentions=(_attention(reader, kind),),
                experts=hashed if index < num_hashed else routed,
                norm_parameters=2 * hidden_size,
                extra=(("residual_mixing", 2 * connection),),
            )
            for index, kind in enumerate(_layer_types(reader))
        ),
        extra=(("residual_mixing", hyper_connection(streams * hidden_size, streams, 1)),),
        expert_keys=KEYS,
    )


def hyper_connection(joint: int, columns: int, num_scales: int) -> int:
    """A hyper-connection's function, base and scales."""
    return columns * (joint + 1) + num_scales


def _layer_types(reader: ConfigReader) -> list[str]:
    """``layer_types``, else by ``compress_ratios``, else two heavy layers and then in turn."""
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    types = reader.words("layer_types", tuple(_RATES), num_layers)
    if types is not None:
        return types
    if reader.values.get("compress_ratios") is not None:
        of_rate = {rate: name for name, rate in _RATES.items()}
        rates = reader.wholes("compress_ratios", minimum=0)
        if len(rates) < num_layers or not set(rates) <= set(of_rate):
            raise reader.fail(
                "compress_ratios", f"must be {num_layers} of 0, 4 and 128, got {list(rates)}"
            )
        return [of_rate[rate] for rate in rates[:num_layers]]
    return [_SPARSE if index >= 2 and index % 2 == 1 else _HEAVY for index in range(num_layers)]


def _num_hash_layers(reader: ConfigReader) -> int:
    """Layers at the start without a router bias; 3 where the config does not say."""
    num_layers = reader.whole("num_hidden_layers", maximum=MAX_LISTED)
    types = reader.words("mlp_layer_types", ("hash_moe", "moe"), num_layers)
    if types is None:
        return reader.whole("num_hash_layers", minimum=0, default=3)
    num_hashed = types.count("hash_moe")
    if "hash_moe" in types[num_hashed:]:
        raise reader.fail("mlp_layer_types", "must have all of hash_moe first")
    return num_hashed


def _attention(reader: ConfigReader, kind: str) -> CompressedAttention:
    rate = _RATES[kind]
    if rate and reader.values.get("compress_rates") is not None:
        rate = reader.object("compress_rates").whole(kind)
    if not rate:
        return local_attention(reader)
    # two slices where the windows of the compressed keys overlap
    columns = reader.whole("head_dim") * (2 if kind == _SPARSE else 1)
    return replace(
        local_attention(reader),
        compress_rate=rate,
        compressor_parameters=2 * reader.whole("hidden_size") * columns,
        compressor_other_parameters=rate * columns + reader.whole("head_dim"),
        indexer=_indexer(reader, rate) if kind == _SPARSE else None,
    )


def local_attention(reader: ConfigReader) -> CompressedAttention:
    """What every layer has: queries, the keys of the local window, sinks and output."""
    return CompressedAttention(
        hidden_size=reader.whole("hidden_size"),
        num_heads=reader.whole("num_attention_heads"),
        head_dim=reader.whole("head_dim"),
        q_lora_rank=reader.whole("q_lora_rank"),
        o_groups=reader.whole("o_groups"),
        o_lora_rank=reader.whole("o_lora_rank"),
        local_window=reader.whole("sliding_window"),
    )


def _indexer(reader: ConfigReader, rate: int) -> Indexer:
    """Compressed keys of its own, queries from the low rank, a weight a head."""
    hidden_size = reader.whole("hidden_size")
    num_heads, head_dim = reader.whole("index_n_heads"), reader.whole("index_head_dim")
    return Indexer(
        num_heads=num_heads,
        head_dim=head_dim,
        matmul_parameters=(
            hidden_size * (4 * head_dim + num_heads)
            + reader.whole("q_lora_rank") * num_heads * head_dim
        ),
        other_parameters=(2 * rate + 1) * head_dim,
        top_k=reader.whole("index_topk"),
        compress_rate=rate,
    )
