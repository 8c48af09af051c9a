"""A design shrunk to what can be trained here, keeping what a claim about tables rests on.

Kept: total / active, the tables' share, N, K, the table sizes' resonance, the top-k, the experts'
granularity, word scaling and amplification. The base vocabulary shrinks first, because the tables'
parameters are ratio x V0 x width. What ngscale's own decoder cannot say is told.
"""

import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.errors import NoResultError, SpecError
from ngscale.model_spec import GroupedAttention, LatentAttention, ModelSpec
from ngscale.params import (
    moe_of,
    most_active,
    parameter_groups,
    total_parameters,
)
from ngscale.policy import mode_policy
from ngscale.proxy_size import ProxySize
from ngscale.resonance import nearest_fraction
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, longcat_spec
from ngscale.table_sizes import is_sound, sound_ratio

_HEAD_DIM = 32
_EXPERT_MULTIPLE = 8
_MAX_HIDDEN_SIZE = 2048
_ROUNDS = 3
_NEAR = 0.001
"""Of the base: closer to p/q of it is on that resonance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One number of the design and of its proxy."""

    name: str
    design: float
    proxy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The small design with its account of what it keeps."""

    design: Design
    kept: tuple[Kept, ...]
    resonance: str
    """Where the table sizes of both lie."""
    lost: tuple[str, ...]
    """What could not be kept, in sentences."""

    @property
    def account(self) -> dict[str, Any]:
        """All but the design, for a record."""
        return {
            "kept": [asdict(one) for one in self.kept],
            "resonance": self.resonance,
            "lost": list(self.lost),
        }


def proxy(design: Design, size: ProxySize) -> Proxy:
    """``design`` on ngscale's decoder; active parameters by ``ACTIVE_CONVENTION``, about.

    Raises:
        SpecError: the design has no experts, no tables, or tables of another hash than LongCat's.
        NoResultError: no small design comes near.
    """
    spec = _longcat(design)
    small = _backbone(design, size, spec)
    for _ in range(_ROUNDS):  # experts add rows to the router, which is active
        ratio = _table_ratio(design, small, spec)
        tables = _tables(spec, size.vocab_size, ratio)
        small = _with_total(design, small, tables)
    made = Design(model=decoder_model(small), ngrams=(tables,))
    return Proxy(
        design=made,
        kept=_kept(design, made),
        resonance=_told(_resonance(spec)),
        lost=_lost(design, made),
    )


def _longcat(design: Design) -> NgramSpec:
    spec = design.ngram
    if spec is None:
        raise SpecError("the design has no n-gram tables, so it has no proxy to compare with")
    if spec.hash_base is None or spec.num_subtables is None or spec.fusion != "average":
        raise SpecError("a proxy is made of designs with LongCat's tables and average fusion only")
    return spec


def _backbone(design: Design, size: ProxySize, spec: NgramSpec) -> DecoderConfig:
    """Width, heads and expert width for the active parameters, nearest to the granularity."""
    active, num_layers = size.active_parameters, size.num_layers
    experts = moe_of(design.model)
    top_k = experts.active_range[1]
    granularity = experts.expert.intermediate_size * top_k / design.model.hidden_size
    shared = _kv_share(design.model)
    best: tuple[float, DecoderConfig] | None = None
    for hidden_size in range(_HEAD_DIM, _MAX_HIDDEN_SIZE + 1, _HEAD_DIM):
        if hidden_size < spec.num_tables:
            continue
        heads = hidden_size // _HEAD_DIM
        kv_heads = max(
            k for k in range(1, heads + 1) if heads % k == 0 and k <= max(1, heads * shared)
        )
        config = DecoderConfig(
            vocab_size=size.vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            head_dim=_HEAD_DIM,
            moe_intermediate_size=_EXPERT_MULTIPLE,
            num_experts=top_k,
            num_experts_per_tok=top_k,
        )
        least = _active(config)
        slope = 3 * hidden_size * top_k * num_layers
        width = _EXPERT_MULTIPLE + (active - least) / slope
        width = max(1, round(width / _EXPERT_MULTIPLE)) * _EXPERT_MULTIPLE
        config = replace(config, moe_intermediate_size=width)
        away = abs(math.log(_active(config) / active))
        coarse = abs(math.log(width * top_k / hidden_size / granularity))
        uneven = 0.1 if hidden_size % spec.num_tables else 0.0
        score = 4 * away + coarse + uneven
        if best is None or score < best[0]:
            best = score, config
    if best is None or abs(math.log(_active(best[1]) / active)) > math.log(1.25):
        least_active = 0 if best is None else _active(best[1])
        raise NoResultError(
            f"--proxy {active:,}: the nearest decoder with {num_layers} layers and "
            f"{size.vocab_size} ids has {least_active:,} active parameters; ask for more, or for "
            "fewer layers or ids"
        )
    return best[1]


def _active(config: DecoderConfig) -> int:
    return most_active(Design(model=decoder_model(config)))


def _kv_share(model: ModelSpec) -> float:
    """Key-value heads per head; 1/2 where that says nothing (MLA)."""
    for _, block in model.attentions:
        if isinstance(block, GroupedAttention):
            return block.num_kv_heads / block.num_heads
    return 0.5


def _share(design: Design) -> float:
    return parameter_groups(design)["ngram_tables"] / total_parameters(design)


def _total_active(design: Design) -> float:
    return total_parameters(design) / most_active(design)


def _table_ratio(design: Design, small: DecoderConfig, spec: NgramSpec) -> float:
    """Rows of a table per base id for the share, moved to the resonance of the design's sizes."""
    num_tables = spec.num_tables
    width = small.hidden_size // num_tables
    total = _total_active(design) * _active(small)
    wanted = _share(design) * total / (num_tables * width * small.vocab_size)
    on = _resonance(spec)
    if on is not None:
        ratio = Fraction(max(1, round(wanted * on))) / on
        return float(ratio)
    assert spec.hash_base is not None
    found = sound_ratio(round(wanted, 3), small.vocab_size, spec.table_orders)
    if found is None:
        raise NoResultError(
            f"no sizes near {wanted:.3f} x {small.vocab_size} pass the audit; ask for another "
            "--proxy size"
        )
    return found


def _resonance(spec: NgramSpec) -> int | None:
    """The denominator q of the p/q that the sizes lie on; None of sizes that are sound."""
    V = spec.hash_base
    assert V is not None
    if is_sound(spec.table_rows, V, spec.table_orders):
        return None
    near = nearest_fraction(spec.table_rows[0], V)
    return near.q if abs(near.offset) < _NEAR * V else None


def _told(denominator: int | None) -> str:
    if denominator is None:
        return "sizes that pass the audit"
    return "integer multiples of V0" if denominator == 1 else f"multiples of V0 / {denominator}"


def _tables(spec: NgramSpec, vocab_size: int, ratio: float) -> NgramSpec:
    assert spec.num_subtables is not None
    tables = longcat_spec(
        vocab_size=vocab_size,
        max_order=spec.max_order,
        num_subtables=spec.num_subtables,
        table_rows=longcat_rows(ratio, vocab_size, spec.num_tables),
        policy=mode_policy("hf", 0),
    )
    return replace(
        tables,
        word_scale=spec.word_scale,
        amplification=spec.amplification,
        amplification_factor=spec.amplification_factor,
    )


def _with_total(design: Design, small: DecoderConfig, tables: NgramSpec) -> DecoderConfig:
    """As many experts as the design's total / active asks for."""
    few, more = (
        Design(model=decoder_model(replace(small, num_experts=count)), ngrams=(tables,))
        for count in (small.num_experts_per_tok, small.num_experts_per_tok + 1)
    )
    ratio = _total_active(design)
    active = [most_active(one) for one in (few, more)]
    total = [total_parameters(one) for one in (few, more)]
    added = (ratio * active[0] - total[0]) / (total[1] - total[0] - ratio * (active[1] - active[0]))
    return replace(small, num_experts=small.num_experts_per_tok + max(0, round(added)))


def _kept(design: Design, made: Design) -> tuple[Kept, ...]:
    def numbers(one: Design) -> dict[str, float]:
        experts, spec = moe_of(one.model), one.ngram
        assert spec is not None
        assert spec.hash_base is not None
        top_k = experts.active_range[1]
        return {
            "total / active": _total_active(one),
            "n-gram share of total": _share(one),
            "N": spec.max_order,
            "K": spec.num_subtables or 0,
            "rows / base vocabulary": spec.table_rows[0] / spec.hash_base,
            "experts per token": top_k,
            "top-k x expert width / hidden size": top_k
            * experts.expert.intermediate_size
            / one.model.hidden_size,
            "active parameters": most_active(one),
            "total parameters": total_parameters(one),
            "base vocabulary": one.model.vocab_size,
            "layers": one.model.num_layers,
            "hidden size": one.model.hidden_size,
            "experts a layer": experts.num_experts,
        }

    mine, small = numbers(design), numbers(made)
    return tuple(Kept(name=name, design=mine[name], proxy=small[name]) for name in mine)


def _lost(design: Design, made: Design) -> tuple[str, ...]:
    model, spec, small = design.model, design.ngram, made.ngram
    assert spec is not None
    assert small is not None
    experts = moe_of(model)
    lost = []
    if any(len(layer.attentions) > 1 for _, layer in model.layers):
        lost.append("The shortcut block: layers here have one attention and one MoE.")
    if any(layer.ffns for _, layer in model.layers):
        lost.append("Dense feed-forward blocks: all are experts here.")
    if any(isinstance(block, LatentAttention) for _, block in model.attentions):
        lost.append("Latent attention: grouped-query attention here, half as many KV heads.")
    if experts.num_zero_experts:
        lost.append(
            f"{experts.num_zero_experts} zero experts: all of the top-k have weights here, as in "
            "the upper end of the active parameters."
        )
    if experts.shared:
        lost.append("Shared experts: none here.")
    if spec.policy.boundary_tokens != small.policy.boundary_tokens:
        lost.append("The ids of special tokens: the boundary is id 0 here.")
    lost.append(
        f"Collisions at scale: {small.vocab_size:,} ids and a small corpus give other n-grams and "
        "other loads; compare orderings, never losses."
    )
    return tuple(lost)
