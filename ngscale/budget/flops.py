"""FLOPs of one token: 2 for every weight it is multiplied with, 2 for every column of a pair of
query and key. Exact integers; sums over a context are told as they are, not rounded to a mean.

Norms, softmax, activations, rotary embeddings and the averaging of rows are not counted, as in
arXiv:2204.02311 (appendix B) and arXiv:2001.08361 (sec. 2.1).
"""

from collections import Counter

from ngscale.budget.arithmetic import Line, line
from ngscale.design import Design
from ngscale.model_spec import Attention, GroupedAttention, LatentAttention, LinearAttention
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
                    "weights": sum(b.matmul_parameters for b in block.shared),
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
    counts: Counter[Attention] = Counter()
    for copies, block in design.model.attentions:
        counts[block] += copies
    what = "decoding behind" if decode else "prefill of"
    terms = []
    for block, copies in counts.items():
        if isinstance(block, LinearAttention):
            state = block.num_value_heads * block.key_head_dim * block.value_head_dim
            tokens = 1 if decode else context_tokens
            terms.append({"6": 6, "layers": copies, "state": state, "tokens": tokens})
            continue
        limit = block.window
        if block.indexer is not None:
            scored = _num_pairs(context_tokens, block.window, decode=decode)
            columns = block.indexer.num_heads * block.indexer.head_dim
            terms.append({"2": 2, "indexers": copies, "columns": columns, "pairs": scored})
            top_k = block.indexer.top_k
            limit = min(limit or top_k, top_k) if top_k else limit
        terms.append(
            {
                "2": 2,
                "layers": copies,
                "columns": _columns(block, decode=decode),
                "pairs": _num_pairs(context_tokens, limit, decode=decode),
            }
        )
    return line(f"FLOPs: attention, {what} {context_tokens} tokens", "FLOP", *terms)


def _columns(block: GroupedAttention | LatentAttention, *, decode: bool) -> int:
    if decode and isinstance(block, LatentAttention):
        return block.num_heads * (2 * block.kv_lora_rank + block.qk_rope_head_dim)
    return block.pair_dim


def _num_pairs(context_tokens: int, window: int | None, *, decode: bool) -> int:
    """Keys that are read: by one token behind the context, or by each of its tokens, added up."""
    if decode:
        return min(context_tokens + 1, window or context_tokens + 1)
    width = min(window or context_tokens, context_tokens)
    return width * (width + 1) // 2 + (context_tokens - width) * width
