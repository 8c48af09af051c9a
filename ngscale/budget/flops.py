"""FLOPs of one token: 2 for every weight it is multiplied with, 2 for every column of a pair of
query and key. Exact integers; sums over a context are told as they are, not rounded to a mean.

Norms, softmax, activations, rotary embeddings and the averaging of rows are not counted, as in
arXiv:2204.02311 (appendix B) and arXiv:2001.08361 (sec. 2.1), nor is what residual streams cost to
mix once the weights of the mixture are computed (hyper-connections, AltUp).
"""

from collections import Counter

from ngscale.budget.arithmetic import Line, line
from ngscale.design import Design
from ngscale.model_spec import (
    Attention,
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    LinearAttention,
)
from ngscale.params import parameter_groups


def matmuls(design: Design, *, most: bool) -> list[Line]:
    """FLOPs of a token's products with weights, by group; with the most experts that have weights
    that it can be routed to, or the fewest. Of the head they are those of one predicted token.
    """
    model = design.model
    groups = parameter_groups(design)
    attention = Counter[Attention]()
    for copies, block in model.attentions:
        attention[block] += copies
    vectors = sum(gate.parameters - gate.matmul_parameters for gate in design.gates)
    projections = groups["ngram_projections"] - vectors
    experts = [(copies, block, block.active_range[most]) for copies, block in model.moe_layers]
    return [
        line(
            "FLOPs: attention projections",
            "FLOP",
            *(
                {"2": 2, "blocks": copies, "weights": _weights(block)}
                for block, copies in attention.items()
            ),
        ),
        line(
            "FLOPs: dense FFN",
            "FLOP",
            *(
                {"2": 2, "layers": copies, "weights": ffn.matmul_parameters}
                for copies, layer in model.layers
                for ffn in layer.ffns
            ),
        ),
        line(
            "FLOPs: experts",
            "FLOP",
            *(
                {
                    "2": 2,
                    "layers": copies,
                    "experts": real,
                    "weights": block.expert.matmul_parameters,
                }
                for copies, block, real in experts
            ),
        ),
        line(
            "FLOPs: shared experts",
            "FLOP",
            *(
                {
                    "2": 2,
                    "layers": copies,
                    "weights": block.shared_parameters,
                }
                for copies, block, _ in experts
            ),
        ),
        line("FLOPs: routers", "FLOP", {"2": 2, "weights": groups["router"]}),
        line("FLOPs: residual mixing", "FLOP", {"2": 2, "weights": groups["residual_mixing"]}),
        line("FLOPs: n-gram projections", "FLOP", {"2": 2, "weights": projections}),
        line("FLOPs: head", "FLOP", {"2": 2, "V": model.vocab_size, "D": model.hidden_size}),
    ]


def _weights(block: Attention) -> int:
    """Multiplied with a token; a depthwise convolution's are."""
    if isinstance(block, LinearAttention):
        return block.matmul_parameters + block.conv_dim * block.conv_kernel
    return block.matmul_parameters


def pairs(design: Design, context_tokens: int, *, decode: bool) -> Line:
    """FLOPs between tokens: of all tokens of a context together (prefill, causal), or of the one
    that is decoded behind it (it reads itself too).

    Prefill multiplies MLA's keys and values expanded; decoding multiplies the latents (the weight
    between is applied to the query instead, arXiv:2405.04434 sec. 2.1). A sparse attention's
    indexer scores every key, the attention reads its top-k. Gated delta net: recall, write and
    read of the state, 2 FLOPs each and value of it.
    """
    states: Counter[int] = Counter()
    reads: Counter[tuple[int, int | None, int]] = Counter()
    picked: int | None = None
    for copies, block in design.model.attentions:
        if isinstance(block, LinearAttention):
            states[block.num_value_heads * block.key_head_dim * block.value_head_dim] += copies
            continue
        if block.indexer is not None:
            picked = block.indexer.top_k
        for read in _reads(block, picked, decode=decode):
            reads[read] += copies
    what, tokens = ("decoding behind", 1) if decode else ("prefill of", context_tokens)
    return line(
        f"FLOPs: attention, {what} {context_tokens} tokens",
        "FLOP",
        *(
            {"6": 6, "layers": copies, "state": state, "tokens": tokens}
            for state, copies in states.items()
        ),
        *(
            {
                "2": 2,
                "layers": copies,
                "columns": columns,
                "pairs": num_pairs(context_tokens, limit, rate=rate, decode=decode),
            }
            for (columns, limit, rate), copies in reads.items()
        ),
    )


def _reads(
    block: GroupedAttention | LatentAttention | CompressedAttention,
    picked: int | None,
    *,
    decode: bool,
) -> list[tuple[int, int | None, int]]:
    """(columns multiplied for every key, keys read at most, tokens that share a key): of the
    indexer, and of the attention itself. ``picked`` keys are read by a block with an indexer, and
    by one behind it that has its compressed keys (DeepSeek-V4.1).
    """
    reads: list[tuple[int, int | None, int]] = []
    indexer = block.indexer
    if indexer is not None:
        reads.append((indexer.num_heads * indexer.head_dim, block.window, indexer.compress_rate))
    top_k = None if indexer is None else indexer.top_k
    if isinstance(block, CompressedAttention):
        columns = 2 * block.num_heads * block.head_dim
        reads.append((columns, block.local_window, 1))
        if block.compress_rate:
            limit = top_k if block.caches_compressed else picked
            reads.append((columns, limit, block.compress_rate))
    elif isinstance(block, LatentAttention) and decode:
        columns = block.num_heads * (2 * block.kv_lora_rank + block.qk_rope_head_dim)
        reads.append((columns, _smaller(block.window, top_k), 1))
    else:
        reads.append((block.pair_dim, _smaller(block.window, top_k), 1))
    return reads


def _smaller(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def num_pairs(context_tokens: int, limit: int | None, *, rate: int = 1, decode: bool) -> int:
    """Keys that are read, ``limit`` by a token at most, where ``rate`` tokens share one: by the
    token behind the context, or by each of its tokens, added up.
    """
    if decode:
        available = (context_tokens + 1) // rate
        return available if limit is None else min(available, limit)
    growing = context_tokens if limit is None else min(context_tokens, rate * limit - 1)
    full, rest = divmod(growing, rate)  # sum of i // rate for i = 1 .. growing
    below = rate * full * (full - 1) // 2 + full * (rest + 1)
    return below + (0 if limit is None else (context_tokens - growing) * limit)
