"""Where the parameters of a design are: exact integers, group by group. Standard library only.

The tensor shapes are those of the released checkpoints (LongCat-Flash-Lite's safetensors; total
68,562,465,024) and of ngscale's own decoder, whose ``sum(p.numel())`` is tested group by group.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from ngscale.model_spec import DecoderModel, Design, LongcatModel, ModelSpec

GROUPS = (
    "word_embedding",
    "ngram_tables",
    "ngram_projections",
    "attention",
    "dense_ffn",
    "experts",
    "router",
    "router_bias",
    "norms",
    "lm_head",
    "mtp",
)
"""Every group, in reporting order; ``mtp`` is counted apart from the total."""

Dtype = Literal["bf16", "fp32", "fp8"]


def parameter_groups(design: Design) -> dict[str, int]:
    """Parameters of every group in ``GROUPS``, 0 where the design has none.

    ``attention`` includes the two layernorms inside MLA and Lite-Sparse's indexer; ``norms`` is
    all others, the final one and the amplification's weight. ``mtp`` leaves out the copy of the
    word embedding that LongCat checkpoints store with it.
    """
    model = design.model
    own = _longcat_groups(model) if isinstance(model, LongcatModel) else _decoder_groups(model)
    groups = dict.fromkeys(GROUPS, 0) | own
    groups["word_embedding"] = groups["lm_head"] = model.vocab_size * model.hidden_size
    spec = design.ngram
    if spec is not None:
        groups["ngram_tables"] = sum(spec.table_rows) * design.table_width
        groups["ngram_projections"] = spec.num_tables * design.table_width * model.hidden_size
        if spec.amplification == "layernorm":
            groups["norms"] += model.hidden_size
    return groups


def total_parameters(design: Design) -> int:
    """All groups but ``mtp``, as the published 68.5B of LongCat-Flash-Lite counts them.

    The router's bias (``e_score_correction_bias``) is in this total.
    """
    return sum(count for group, count in parameter_groups(design).items() if group != "mtp")


def _longcat_groups(model: LongcatModel) -> dict[str, int]:
    D = model.hidden_size
    num_sublayers = 2 * model.num_layers
    num_routed = model.n_routed_experts + model.zero_expert_num
    attention = _mla_parameters(model)
    dense_ffn = 3 * D * model.ffn_hidden_size
    # eh_proj [D, 2D]; norms: enorm, hnorm, input, post-attention and the MTP's own final one
    mtp_layer = 2 * D * D + attention + dense_ffn + 5 * D
    return {
        "attention": num_sublayers * attention + model.num_layers * _indexer_parameters(model),
        "dense_ffn": num_sublayers * dense_ffn,
        "experts": model.num_layers * model.n_routed_experts * expert_parameters(model),
        "router": model.num_layers * num_routed * D,
        "router_bias": model.num_layers * num_routed,
        "norms": num_sublayers * 2 * D + D,
        "mtp": model.num_mtp_layers * mtp_layer,
    }


def _mla_parameters(model: LongcatModel) -> int:
    """One multi-head latent attention: q_a, q_b, kv_a, kv_b, o and the two layernorms."""
    D, H = model.hidden_size, model.num_attention_heads
    query_dim = model.qk_nope_head_dim + model.qk_rope_head_dim
    query = D * model.q_lora_rank + model.q_lora_rank + model.q_lora_rank * H * query_dim
    key_value = (
        D * (model.kv_lora_rank + model.qk_rope_head_dim)
        + model.kv_lora_rank
        + model.kv_lora_rank * H * (model.qk_nope_head_dim + model.v_head_dim)
    )
    return query + key_value + H * model.v_head_dim * D


def _indexer_parameters(model: LongcatModel) -> int:
    """The indexer of one layer's first attention: wq_b, wk, weights_proj and k_norm."""
    H, d = model.index_n_heads, model.index_head_dim
    return H * d * model.q_lora_rank + d * model.hidden_size + H * model.hidden_size + d


def _decoder_groups(model: DecoderModel) -> dict[str, int]:
    D, L = model.hidden_size, model.num_hidden_layers
    query_dim = model.num_attention_heads * model.head_dim
    key_value_dim = model.num_key_value_heads * model.head_dim
    return {
        "attention": L * (2 * D * query_dim + 2 * D * key_value_dim),
        "experts": L * model.num_experts * expert_parameters(model),
        "router": L * model.num_experts * D,
        "norms": L * 2 * D + D,
    }


def expert_parameters(model: ModelSpec) -> int:
    """One expert of one layer: gate, up and down projections, ``3 * D * F``."""
    if isinstance(model, LongcatModel):
        return 3 * model.hidden_size * model.expert_ffn_hidden_size
    return 3 * model.hidden_size * model.moe_intermediate_size


def num_experts(model: ModelSpec) -> int:
    """Experts with weights, per layer (LongCat's zero experts have none)."""
    return model.n_routed_experts if isinstance(model, LongcatModel) else model.num_experts


def num_moe_layers(model: ModelSpec) -> int:
    """Layers with experts; a shortcut layer of LongCat has one MoE."""
    return model.num_layers if isinstance(model, LongcatModel) else model.num_hidden_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCount:
    """Parameters that take part in one token's forward pass, by a named convention."""

    minimum: int
    """With as many zero experts among the top-k as there can be."""
    maximum: int
    """With as many real experts."""
    groups: tuple[str, ...]
    """What is counted; ``layer_norms`` is ``norms`` without the final one."""


_ACTIVE_CONVENTIONS = {
    "without_projections": (
        "attention",
        "dense_ffn",
        "experts",
        "router",
        "router_bias",
        "layer_norms",
        "lm_head",
    ),
    "with_projections": (
        "ngram_projections",
        "attention",
        "dense_ffn",
        "experts",
        "router",
        "norms",
        "lm_head",
    ),
}


def active_parameters(design: Design) -> dict[str, ActiveCount]:
    """Active parameters by each convention; rows read from tables are counted by neither.

    Both give the published 2.9B-4.5B of LongCat-Flash-Lite to one decimal; the source does not
    say which groups it counts, so a convention is part of the number.
    """
    counts = parameter_groups(design)
    counts["layer_norms"] = counts["norms"] - design.model.hidden_size
    fewest, most = active_experts(design.model)
    expert_slot = num_moe_layers(design.model) * expert_parameters(design.model)
    active = {}
    for name, groups in _ACTIVE_CONVENTIONS.items():
        always = sum(counts[group] for group in groups if group != "experts")
        active[name] = ActiveCount(
            minimum=always + fewest * expert_slot,
            maximum=always + most * expert_slot,
            groups=groups,
        )
    return active


def active_experts(model: ModelSpec) -> tuple[int, int]:
    """Fewest and most real experts a token can be routed to in a layer."""
    if isinstance(model, DecoderModel):
        return model.num_experts_per_tok, model.num_experts_per_tok
    fewest = max(0, model.moe_topk - model.zero_expert_num)
    return fewest, min(model.moe_topk, model.n_routed_experts)


def parameter_equivalent_experts(design: Design) -> Fraction:
    """Experts to add per layer so that the model without tables has the same total, exactly.

    An added expert brings its three matrices, its row of the router and, in LongCat, its bias.
    Lite: 237.71. The 237.8 told elsewhere for Lite counts the matrices alone; see
    ``expert_only_equivalent``.
    """
    return Fraction(_ngram_parameters(design), num_moe_layers(design.model) * _expert_cost(design))


def expert_only_equivalent(design: Design) -> Fraction:
    """Tables and projections in units of one expert per layer, the router not counted."""
    per_expert = num_moe_layers(design.model) * expert_parameters(design.model)
    return Fraction(_ngram_parameters(design), per_expert)


def parameter_equivalent_moe(design: Design) -> Design:
    """The same backbone without tables and with more experts: the nearest total.

    Top-k, expert size and zero experts stay, so the active parameters do too, up to the
    router's rows and the n-gram projections.
    """
    model = design.model
    count = num_experts(model) + round(parameter_equivalent_experts(design))
    if isinstance(model, LongcatModel):
        return Design(model=replace(model, n_routed_experts=count), ngram=None)
    return Design(model=replace(model, num_experts=count), ngram=None)


def _expert_cost(design: Design) -> int:
    """Parameters that one more expert adds to one layer."""
    model = design.model
    router_bias = 1 if isinstance(model, LongcatModel) else 0
    return expert_parameters(model) + model.hidden_size + router_bias


def _ngram_parameters(design: Design) -> int:
    """What the design loses with its tables: rows, projections, amplification weight."""
    bare = replace(design, ngram=None)
    return total_parameters(design) - total_parameters(bare)


def bytes_per_parameter(dtype: Dtype) -> dict[str, int]:
    """Bytes of one stored parameter of every group when weights are kept as ``dtype``.

    The router and its bias are fp32 in LongCat checkpoints whatever the rest is. ``fp8`` is what
    published fp8 exports do: attention, dense FFN and experts at one byte, all else bf16; their
    scales and the few norms inside attention are not told apart.
    """
    widths = dict.fromkeys(GROUPS, 4 if dtype == "fp32" else 2)
    widths["router"] = widths["router_bias"] = 4
    if dtype == "fp8":
        widths |= dict.fromkeys(("attention", "dense_ffn", "experts"), 1)
    return widths
