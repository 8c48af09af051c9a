"""Bytes of weights, caches and training state. Exact integers, each with its formula."""

from collections import Counter
from collections.abc import Iterable

from ngscale.budget.arithmetic import Line, line
from ngscale.design import Design
from ngscale.model_spec import (
    Attention,
    CompressedAttention,
    Experts,
    FeedForward,
    GroupedAttention,
    LatentAttention,
    Layer,
    LinearAttention,
)
from ngscale.params import Dtype, bytes_per_parameter, parameter_groups

CACHE_BYTES: dict[Dtype, int] = {"bf16": 2, "fp8": 1, "fp32": 4}
_STATE_BYTES = 4
"""Linear attention's state is kept in fp32 (transformers' Qwen3-Next, flash-linear-attention)."""

ADAMW_BYTES = {"bf16 weight": 2, "gradient": 2, "fp32 weight": 4, "moments": 8}
"""Of one parameter, in mixed precision: 16 (arXiv:1910.02054, sec. 3.1)."""


def weights(design: Design, dtype: Dtype) -> list[Line]:
    """Stored weights, group by group, then of multi-token prediction."""
    widths = bytes_per_parameter(dtype)
    return [
        line(f"weights: {group}", "B", {"parameters": count, "bytes": widths[group]})
        for group, count in parameter_groups(design).items()
        if count
    ]


def cache(design: Design, context_tokens: int, cache_dtype: Dtype) -> list[Line]:
    """What one sequence of a context keeps: per token, per token beyond all windows, in all, and
    the state whose size does not depend on the context.
    """
    return cache_of(design.model.attentions, context_tokens, cache_dtype)


def cache_of(
    attentions: Iterable[tuple[int, Attention]], context_tokens: int, cache_dtype: Dtype
) -> list[Line]:
    """The same of (how many alike, attention)."""
    width = CACHE_BYTES[cache_dtype]
    counts: Counter[Attention] = Counter()
    for copies, block in attentions:
        counts[block] += copies
    per_token = [
        (block, {"layers": copies, **_cached(block), "bytes": width})
        for block, copies in counts.items()
    ]
    return [
        line("KV cache of one token", "B", *(term for _, term in per_token)),
        line(
            "KV cache of one more token beyond all windows",
            "B",
            *(term for block, term in per_token if block.window is None),
        ),
        line(
            "KV cache of one sequence",
            "B",
            *(
                {"layers": copies, **term, "bytes": width}
                for block, copies in counts.items()
                for term in _kept(block, context_tokens)
            ),
        ),
        line(
            "state of one sequence",
            "B",
            *(
                {"layers": copies, "state values": block.state_values, "fp32 bytes": _STATE_BYTES}
                for block, copies in counts.items()
                if isinstance(block, LinearAttention)
            ),
        ),
    ]


def _cached(block: Attention) -> dict[str, int]:
    """The factors of ``cached_values``; those of a compressed attention are a mean, rounded up."""
    if isinstance(block, GroupedAttention) and block.caches_kv and block.indexer is None:
        return {"KV heads": block.num_kv_heads, "K and V columns": 2 * block.head_dim}
    if isinstance(block, LatentAttention):
        return {"latent and rotary columns": block.cached_values}
    return {"values": block.cached_values}


def _kept(block: Attention, context_tokens: int) -> list[dict[str, int]]:
    """The factors of what one block keeps of a sequence."""
    if not isinstance(block, CompressedAttention):
        tokens = min(context_tokens, block.window or context_tokens)
        return [{"tokens": tokens, **_cached(block)}]
    kept = [{"tokens": min(context_tokens, block.local_window), "columns": block.head_dim}]
    if block.compress_rate and block.caches_compressed:
        kept.append({"keys": context_tokens // block.compress_rate, "columns": block.head_dim})
    if block.indexer is not None and block.indexer.caches_keys:
        keys = context_tokens // block.indexer.compress_rate
        kept.append({"index keys": keys, "columns": block.indexer.head_dim})
    return kept


def training(design: Design, num_tokens: int) -> dict[str, Line]:
    """Weights, gradients and optimiser state: of everything but the tables under AdamW, and of the
    tables under each of three optimisers. ``num_tokens`` are those of one step on one rank.

    ``sparse_adam`` (torch's SparseAdam, lazy Adam) keeps AdamW's state and gradients only of the
    rows that were read; ``rowwise_adagrad`` (FBGEMM's exact row-wise) keeps one fp32 a row and bf16
    weights that are rounded stochastically, without a copy in fp32. A row's gradient is bf16 and
    has an int64 id. Rows read are told from above: every token reads others.
    """
    groups = parameter_groups(design)
    tables = groups["ngram_tables"]
    rows = sum(spec.physical_rows for spec in design.ngrams)
    each = sum(ADAMW_BYTES.values())
    dense = sum(groups.values()) - tables - groups["mtp"]
    gradients = [
        {
            "rows read": min(num_tokens * spec.num_tables, spec.physical_rows),
            "2 B a column, 8 B an id": 2 * design.table_width(spec) + 8,
        }
        for spec in design.ngrams
    ]
    state = ADAMW_BYTES["bf16 weight"] + ADAMW_BYTES["fp32 weight"] + ADAMW_BYTES["moments"]
    return {
        "dense": line(
            "training: all but tables, AdamW", "B", {"parameters": dense, "2+2+4+8": each}
        ),
        "adamw": line("training: tables, AdamW", "B", {"parameters": tables, "2+2+4+8": each}),
        "sparse_adam": line(
            "training: tables, sparse Adam",
            "B",
            {"parameters": tables, "2+4+8": state},
            *gradients,
        ),
        "rowwise_adagrad": line(
            "training: tables, row-wise Adagrad",
            "B",
            {"parameters": tables, "bf16 weight": 2},
            {"rows": rows, "fp32": 4},
            *gradients,
        ),
    }


def activations(design: Design, num_tokens: int) -> dict[str, Line]:
    """What the backward pass needs of the forward pass, bf16, with an attention that stores no
    scores (arXiv:2205.14135): ``all`` kept, or only the input of every layer (``recompute``: each
    layer is computed again, so one layer's are alive at a time; the largest counts).

    Per token and layer: the input of every norm and of every block, q, k and v, what o_proj reads
    and its log-sum in fp32; of a feed-forward block its hidden columns before and after the
    activation, gate and up apart; of experts that for each of the top-k, their inputs and outputs.
    For a GPT layer this is 32 D bytes and those log-sums: the 34 D of arXiv:2205.05198 (Eq. 2)
    without its two dropout masks. N-gram projections keep the rows. The head keeps its input, that
    of the final norm, and the logits in fp32.
    """
    model = design.model
    hidden, vocab = model.hidden_size, model.vocab_size
    head = {"tokens": num_tokens, "head: 4 D + 4 V": 4 * hidden + 4 * vocab}
    columns = sum(spec.num_tables * design.table_width(spec) for spec in design.ngrams)
    rows = {"tokens": num_tokens, "2 B": 2, "columns of n-gram rows": columns}
    layers: Counter[Layer] = Counter()
    for copies, layer in model.layers:
        layers[layer] += copies
    costs = {layer: _layer_activation_bytes(layer, hidden) for layer in layers}
    largest = max(costs.values(), default=0)
    return {
        "all": line(
            "activations, all kept",
            "B",
            *(
                {"tokens": num_tokens, "layers": copies, "bytes of a layer": costs[layer]}
                for layer, copies in layers.items()
            ),
            rows,
            head,
        ),
        "recompute": line(
            "activations, layers recomputed",
            "B",
            {"tokens": num_tokens, "layers": model.num_layers, "2 D": 2 * hidden},
            {"tokens": num_tokens, "bytes of the largest layer": largest},
            rows,
            head,
        ),
    }


def _layer_activation_bytes(layer: Layer, hidden_size: int) -> int:
    """Of one token in one layer."""
    values, log_sums = 0, 0
    for block in layer.attentions:
        attention, heads = _attention_activations(block)
        values += 2 * hidden_size + attention  # the norm's input and the block's
        log_sums += heads
    for ffn in layer.ffns:
        values += 2 * hidden_size + _ffn_activations(ffn)
    if layer.experts is not None:
        values += 2 * hidden_size + _expert_activations(layer.experts)
        log_sums += layer.experts.num_routed  # the router's scores, fp32 as well
    return 2 * values + 4 * log_sums


def _attention_activations(block: Attention) -> tuple[int, int]:
    """bf16 values and fp32 values."""
    if isinstance(block, GroupedAttention):
        key_value = 2 * block.num_kv_heads * block.head_dim
        return 2 * block.query_dim + key_value + block.gate_dim, block.num_heads
    if isinstance(block, LatentAttention):
        query_dim = block.num_heads * (block.qk_nope_head_dim + block.qk_rope_head_dim)
        latents = 2 * (block.q_lora_rank or 0) + 2 * block.kv_lora_rank + block.qk_rope_head_dim
        values = block.num_heads * block.v_head_dim
        return latents + 2 * query_dim + 2 * values, block.num_heads
    if isinstance(block, CompressedAttention):
        query = block.num_heads * block.head_dim
        low_rank = 2 * block.q_lora_rank + block.o_groups * block.o_lora_rank
        return low_rank + 2 * query + block.head_dim, block.num_heads
    out = block.num_value_heads * block.value_head_dim
    return 2 * block.conv_dim + 3 * out, 2 * block.num_value_heads


def _ffn_activations(ffn: FeedForward) -> int:
    return (2 + ffn.is_gated) * ffn.intermediate_size


def _expert_activations(experts: Experts) -> int:
    """At most: every one of the top-k has weights."""
    routed = experts.active_range[1] * (2 * experts.hidden_size + _ffn_activations(experts.expert))
    return routed + sum(_ffn_activations(shared) for shared in experts.shared)
