"""What every rank holds when a design is split as inference engines split it.

Tensor parallel (TP): attention heads, columns of feed-forward blocks, rows of the word embedding
and the head are split; where there are fewer key-value heads than ranks each rank has a copy of
one; latents of MLA, their cache, norms and routers are copied. Expert parallel (EP): experts are
split whole; without it their columns are split over TP. Pipeline (PP): layers in a row, as vLLM's
``get_pp_indices`` divides them. Data parallel (DP): copies of all but experts under EP. The rows of
n-gram tables, one table after the other, are split over ``table_shards`` ranks, TP if not given;
a stage that reads them in several layers has them once, two stages have a copy each.
"""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil

from ngscale.design import Design
from ngscale.errors import UsageError
from ngscale.model_spec import (
    Attention,
    CompressedAttention,
    Experts,
    FeedForward,
    GroupedAttention,
    LatentAttention,
    Layer,
)
from ngscale.params import ngram_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How many ways each dimension is split."""

    tp: int = 1
    ep: int = 1
    pp: int = 1
    dp: int = 1
    table_shards: int | None = None
    """None: as many as ``tp``."""

    @property
    def num_ranks(self) -> int:
        """Devices in all; EP is over those of one stage."""
        return self.tp * self.pp * self.dp


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What each rank of one pipeline stage holds."""

    layers: tuple[tuple[int, Layer], ...]
    """As one rank has them, in runs."""
    parameters: Counter[str]
    """By group; multi-token prediction is not placed."""
    table_rows: int
    """Of all tables together, as an engine that numbers them in one int32 would."""


def split(design: Design, ranks: Ranks) -> tuple[Stage, ...]:
    """The stages of a design, from the first to the last.

    Raises:
        UsageError: the split does not come out even where an engine needs it to.
    """
    model = design.model
    if ranks.pp > model.num_layers:
        raise UsageError(f"--pp {ranks.pp}: exceeds the {model.num_layers} layers")
    if (ranks.tp * ranks.dp) % ranks.ep:
        raise UsageError(f"--ep {ranks.ep}: does not divide --tp {ranks.tp} x --dp {ranks.dp}")
    layers = [layer for copies, layer in model.layers for _ in range(copies)]
    stages, first = [], 0
    for index, count in enumerate(stage_layers(model.num_layers, ranks.pp)):
        own = Counter(layers[first : first + count])
        stages.append(_stage(design, ranks, index, own, range(first, first + count)))
        first += count
    return tuple(stages)


def stage_layers(num_layers: int, num_stages: int) -> list[int]:
    """Layers of every stage: equal, the rest one each from the last but one forward (vLLM)."""
    counts = [num_layers // num_stages] * num_stages
    for place in range(num_layers % num_stages):
        counts[-2 - place] += 1
    return counts


def _stage(design: Design, ranks: Ranks, index: int, own: Counter[Layer], places: range) -> Stage:
    model = design.model
    layers = tuple((copies, _layer(layer, ranks)) for layer, copies in own.items())
    parameters: Counter[str] = Counter()
    for copies, layer in layers:
        for group, count in layer.group_counts().items():
            parameters[group] += copies * count
    vocab = ceil(model.vocab_size / ranks.tp) * model.hidden_size
    is_first, is_last = index == 0, index == ranks.pp - 1
    if is_first:
        for group, count in model.extra:
            parameters[group] += count
        parameters["word_embedding"] += vocab
        parameters["position_embedding"] += model.position_parameters
    if is_last:
        parameters["norms"] += model.final_norm_parameters
        if not model.ties_embeddings or not is_first:  # tied: a copy of the word embedding
            parameters["lm_head"] += vocab
    rows = 0
    for spec, gate in zip_longest(design.ngrams, design.gates):
        if not set(spec.layers or (0,)) & set(places):
            continue
        shards = ranks.table_shards or ranks.tp
        rows += ceil(spec.physical_rows / shards)
        for group, count in ngram_groups(design, spec, gate, tp=ranks.tp, shards=shards).items():
            parameters[group] += count
    return Stage(layers=layers, parameters=parameters, table_rows=rows)


def _layer(layer: Layer, ranks: Ranks) -> Layer:
    """A layer as one rank has it; the norms and what no block says are copied."""
    tp = ranks.tp
    return replace(
        layer,
        attentions=tuple(_attention(block, tp) for block in layer.attentions),
        ffns=tuple(_ffn(block, tp) for block in layer.ffns),
        experts=None if layer.experts is None else _experts(layer.experts, ranks),
    )


def _attention(block: Attention, tp: int) -> Attention:
    if isinstance(block, LatentAttention):
        return replace(block, num_heads=_part(block.num_heads, tp, "num_attention_heads"))
    if isinstance(block, CompressedAttention):
        return replace(
            block,
            num_heads=_part(block.num_heads, tp, "num_attention_heads"),
            o_groups=_part(block.o_groups, tp, "o_groups"),
        )
    if isinstance(block, GroupedAttention):
        num_kv_heads = block.num_kv_heads
        if num_kv_heads < tp:
            _part(tp, num_kv_heads, "num_key_value_heads", copies=True)
        return replace(
            block,
            num_heads=_part(block.num_heads, tp, "num_attention_heads"),
            num_kv_heads=(
                1 if num_kv_heads < tp else _part(num_kv_heads, tp, "num_key_value_heads")
            ),
            gate_dim=_part(block.gate_dim, tp, "the output gate"),
            num_sinks=_part(block.num_sinks, tp, "sinks"),
        )
    return replace(
        block,
        num_key_heads=_part(block.num_key_heads, tp, "linear_num_key_heads"),
        num_value_heads=_part(block.num_value_heads, tp, "linear_num_value_heads"),
    )


def _ffn(block: FeedForward, tp: int) -> FeedForward:
    return replace(block, intermediate_size=_part(block.intermediate_size, tp, "intermediate_size"))


def _experts(experts: Experts, ranks: Ranks) -> Experts:
    """The router's rows stay, so the experts are told apart from what it chooses from."""
    shared = tuple(_ffn(block, ranks.tp) for block in experts.shared)
    if ranks.ep == 1:
        return replace(experts, expert=_ffn(experts.expert, ranks.tp), shared=shared)
    held = ceil(experts.num_experts / ranks.ep)
    elsewhere = experts.num_experts - held
    return replace(
        experts,
        num_experts=held,
        num_zero_experts=experts.num_zero_experts + elsewhere,
        shared=shared,
    )


def _part(size: int, ways: int, name: str, *, copies: bool = False) -> int:
    if size % ways:
        problem = f"is no multiple of {name} {ways}" if copies else f"does not divide {name} {size}"
        raise UsageError(f"--tp {size if copies else ways}: {problem}")
    return size // ways
