"""Where the parameters of a design are: exact integers, group by group. Standard library only."""

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from math import ceil
from typing import Literal

from ngscale.architectures import with_experts
from ngscale.design import Design
from ngscale.errors import SpecError
from ngscale.model_spec import Experts, ModelSpec, NgramGate
from ngscale.ngram_params import ngram_parameters
from ngscale.spec import NgramSpec

GROUPS = (
    "word_embedding",
    "position_embedding",
    "per_layer_embedding",
    "ngram_tables",
    "ngram_projections",
    "attention",
    "dense_ffn",
    "experts",
    "shared_experts",
    "router",
    "router_bias",
    "residual_mixing",
    "norms",
    "lm_head",
    "mtp",
)
"""Every group, in reporting order; ``mtp`` is counted apart from the total. ``residual_mixing`` is
what lies between the blocks of a layer: hyper-connections, AltUp, Laurel."""

Dtype = Literal["bf16", "fp32", "fp8"]


def parameter_groups(design: Design) -> dict[str, int]:
    """Parameters of every group in ``GROUPS``, 0 where the design has none.

    ``attention`` includes the norms and the indexer inside it; ``norms`` is all others, the final
    one and the amplification's weight. ``ngram_tables`` includes rows that are only padding;
    ``ngram_projections`` the gate, norms and convolution of Engram's reader. ``mtp`` leaves out
    the copy of the word embedding that LongCat checkpoints store with it.
    """
    model = design.model
    counts = Counter(dict.fromkeys(GROUPS, 0))
    for copies, layer in model.layers:
        for group, count in layer.group_counts().items():
            counts[group] += copies * count
    for group, count in model.extra:
        counts[group] += count
    counts["norms"] += model.final_norm_parameters
    counts["word_embedding"] += model.vocab_size * model.hidden_size
    counts["position_embedding"] += model.position_parameters
    if not model.ties_embeddings:
        counts["lm_head"] += model.vocab_size * model.hidden_size
    counts["mtp"] += sum(
        copies * layer.group_counts().total() for copies, layer in model.mtp_layers
    )
    for spec, gate in zip_longest(design.ngrams, design.gates):
        for group, count in ngram_groups(design, spec, gate).items():
            counts[group] += count
    assert set(counts) == set(GROUPS), "a group has no name"
    return {group: counts[group] for group in GROUPS}


def ngram_groups(
    design: Design, spec: NgramSpec, gate: NgramGate | None, *, tp: int = 1, shards: int = 1
) -> Counter[str]:
    """What one set of tables adds to the groups; of a rank that holds one of ``shards`` of the rows
    and, of the words and the up-projection that PLE and PLNE know, one of ``tp``.
    """
    model, width = design.model, design.fused_width(spec)
    counts: Counter[str] = Counter()
    rows = "per_layer_embedding" if spec.placement == "ple" else "ngram_tables"
    counts[rows] += ceil(spec.physical_rows / shards) * design.table_width(spec)
    projections = ngram_parameters(spec, hidden_size=width, gate=gate).projections
    counts["ngram_projections"] += projections
    if spec.placement == "plne":
        counts["per_layer_embedding"] += ceil(model.vocab_size / tp) * width
    if spec.placement != "input":
        counts["dense_ffn"] -= model.hidden_size * width // tp  # the up-projection it stands for
    if spec.amplification == "layernorm":
        counts["norms"] += width
    return counts


def ngram_padding(design: Design) -> int:
    """Of the ``ngram_tables``, those of rows that only fill up to a multiple."""
    return sum(
        ngram_parameters(spec, hidden_size=design.fused_width(spec), gate=gate).padding
        for spec, gate in zip_longest(design.ngrams, design.gates)
    )


def total_parameters(design: Design) -> int:
    """All groups but ``mtp``, as the published 68.5B of LongCat-Flash-Lite counts them.

    The router's bias (``e_score_correction_bias``) is in this total.
    """
    return sum(count for group, count in parameter_groups(design).items() if group != "mtp")


def moe_of(model: ModelSpec) -> Experts:
    """The experts of its layers, which are of one size and number; router biases may differ.

    Raises:
        SpecError: it has none.
    """
    if not model.moe_layers:
        raise SpecError(f"{model.model_type} has no experts whose number could vary")
    return model.moe_layers[0][1]


def num_moe_layers(model: ModelSpec) -> int:
    """Layers with experts; a shortcut layer of LongCat has one MoE."""
    return sum(count for count, _ in model.moe_layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveCount:
    """Parameters that take part in one token's forward pass, by a named convention."""

    at: dict[int, int]
    """Active parameters by the number of experts with weights among the top-k of every layer:
    fewer than the top-k where zero experts can take their place."""
    groups: tuple[str, ...]
    """What is counted; ``layer_norms`` is ``norms`` without the final one."""

    @property
    def minimum(self) -> int:
        """With as many zero experts among the top-k as there can be."""
        return min(self.at.values())

    @property
    def maximum(self) -> int:
        """With as many real experts."""
        return max(self.at.values())


_BLOCKS = (
    "ngram_projections",
    "attention",
    "dense_ffn",
    "experts",
    "shared_experts",
    "router",
    "router_bias",
    "residual_mixing",
    "norms",
)
_LOOKUPS = ("word_embedding", "position_embedding", "per_layer_embedding")
_WITHOUT_PROJECTIONS = (
    "attention",
    "dense_ffn",
    "experts",
    "shared_experts",
    "router",
    "router_bias",
    "residual_mixing",
    "layer_norms",
    "lm_head",
)
_WITH_PROJECTIONS = tuple(group for group in _BLOCKS if group != "router_bias")
ACTIVE_CONVENTIONS = {
    "without_projections": _WITHOUT_PROJECTIONS,
    "with_projections": (*_WITH_PROJECTIONS, "lm_head"),
    "with_embedding_and_head": (*_LOOKUPS, *_BLOCKS, "lm_head"),
    "with_head": (*_BLOCKS, "lm_head"),
    "without_embedding_or_head": _BLOCKS,
}
"""The first two give LongCat-Flash-Lite's published 2.9B-4.5B, the third the published active
parameters of most other models, which count the whole word embedding."""


ACTIVE_CONVENTION = "with_projections"
"""By which designs are compared here."""


def active_parameters(design: Design) -> dict[str, ActiveCount]:
    """Active parameters by each convention; rows read from n-gram tables are counted by none.

    Both of LongCat's give the published 2.9B-4.5B of LongCat-Flash-Lite to one decimal; the source
    does not say which groups it counts, so a convention is part of the number. A head that is the
    word embedding is counted as ``word_embedding`` where the convention counts a head.
    """
    counts = parameter_groups(design)
    counts["layer_norms"] = counts["norms"] - design.model.final_norm_parameters
    slots = [(copies, experts) for copies, experts in design.model.moe_layers]
    most = max((experts.active_range[1] for _, experts in slots), default=0)
    fewest = min((experts.active_range[0] for _, experts in slots), default=0)
    active = {}
    for name, groups in ACTIVE_CONVENTIONS.items():
        if design.model.ties_embeddings and "lm_head" in groups:
            groups = tuple(dict.fromkeys(("word_embedding", *groups)))
        groups = tuple(group for group in groups if counts[group])
        always = sum(counts[group] for group in groups if group != "experts")
        active[name] = ActiveCount(
            at={real: always + _routed_parameters(slots, real) for real in range(fewest, most + 1)},
            groups=groups,
        )
    return active


def most_active(design: Design) -> int:
    """By ``ACTIVE_CONVENTION``, with as many real experts as there can be."""
    return active_parameters(design)[ACTIVE_CONVENTION].maximum


def _routed_parameters(slots: list[tuple[int, Experts]], real: int) -> int:
    """Of the experts of all layers, ``real`` of each where its top-k allows."""
    return sum(
        copies
        * min(max(real, experts.active_range[0]), experts.active_range[1])
        * experts.expert.parameters
        for copies, experts in slots
    )


def parameter_equivalent_experts(design: Design) -> Fraction:
    """Experts to add per layer so that the model without tables has the same total, exactly.

    An added expert brings its matrices, its row of the router and its biases there.
    Lite: 237.71. The 237.8 told elsewhere for Lite counts the matrices alone; see
    ``expert_only_equivalent``.

    Raises:
        SpecError: the model has no experts.
    """
    moe_of(design.model)
    cost = sum(copies * experts.added_parameters for copies, experts in design.model.moe_layers)
    return Fraction(_ngram_parameters(design), cost)


def expert_only_equivalent(design: Design) -> Fraction:
    """Tables and projections in units of one expert per layer, the router not counted."""
    per_expert = num_moe_layers(design.model) * moe_of(design.model).expert.parameters
    return Fraction(_ngram_parameters(design), per_expert)


def parameter_equivalent_moe(design: Design) -> Design:
    """The same backbone without tables and with more experts: the nearest total.

    Top-k, expert size and zero experts stay, so the active parameters do too, up to the
    router's rows and the n-gram projections.

    Raises:
        SpecError: the model has no experts.
    """
    count = moe_of(design.model).num_experts + round(parameter_equivalent_experts(design))
    return Design(model=with_experts(design.model, count))


def _ngram_parameters(design: Design) -> int:
    """What the design loses with its tables: rows, projections, amplification weight."""
    bare = replace(design, ngrams=(), gates=())
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
        widths |= dict.fromkeys(("attention", "dense_ffn", "experts", "shared_experts"), 1)
    return widths
