"""One model with its experts traded for LongCat's tables, at a fixed total: all in exact integers.

Everything but the number of experts, their width, the top-k and the tables is the model's. Totals,
bytes and active parameters are affine in the number of experts, so two models of each width give
those of all; the tables fill what the experts leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ngscale.architectures import with_experts, with_keys
from ngscale.budget.design_facts import shortcut_layers, vocabulary_counted
from ngscale.budget.evidence.facts import Facts
from ngscale.design import Design
from ngscale.errors import NoResultError
from ngscale.model_spec import Experts, ModelSpec
from ngscale.ngram_config import with_longcat_tables, without_tables
from ngscale.params import (
    ACTIVE_CONVENTION,
    Dtype,
    active_parameters,
    bytes_per_parameter,
    moe_of,
    most_active,
    num_moe_layers,
    parameter_groups,
    total_parameters,
)
from ngscale.spec import MAX_TABLE_ROWS

_WIDTH_MULTIPLE = 64
_OFF = 0.02
"""How far active parameters may be from those asked for."""
_GRANULARITIES = (4, 2, 1)
"""Experts so many times narrower, as many times more of them active; and wider ones."""
_LOOKED_UP = ("word_embedding", "position_embedding", "per_layer_embedding", "ngram_tables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The model with experts of one width and one top-k: counts as ``constant + slope * E``."""

    model: ModelSpec
    intermediate_size: int
    top_k: int
    total: tuple[int, int]
    active: tuple[int, int]
    weight_bytes: tuple[int, int]
    """Of all weights but tables."""
    read_bytes: tuple[int, int]
    """Of weights that every token reads: neither looked-up rows nor routed experts."""
    expert_bytes: int
    """Of one expert in every layer that has experts."""
    num_zero_experts: int
    vocabulary: int
    """Parameters of the word embedding and the head."""
    active_vocabulary: int
    """Those of them that ``active`` counts."""

    def at(self, counts: tuple[int, int], num_experts: int) -> int:
        """One of the counts, with so many experts a layer."""
        return counts[0] + counts[1] * num_experts

    def experts_read(self, num_experts: int, num_tokens: int) -> float:
        """Experts of a layer that a batch reads, if tokens chose evenly: E (1 - (1 - k/R)^B)."""
        routed = num_experts + self.num_zero_experts
        return num_experts * (1.0 - (1.0 - self.top_k / routed) ** num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A feasible design: whole experts, and tables of about ``table_rows`` rows each."""

    mixture: Mixture
    num_experts: int
    max_order: int
    """N; 0 without tables."""
    num_subtables: int
    """K."""
    table_rows: int
    """Of one table, before it is moved to a sound size."""
    total_parameters: int
    ngram_parameters: int
    active_parameters: int

    @property
    def num_tables(self) -> int:
        """(N-1) K."""
        return max(0, self.max_order - 1) * self.num_subtables

    @property
    def share(self) -> float:
        """The tables' of the total."""
        return self.ngram_parameters / self.total_parameters

    @property
    def table_width(self) -> int:
        """Columns of a table."""
        return self.mixture.model.hidden_size // self.num_tables if self.num_tables else 0

    def facts(self, training_tokens: int | None) -> Facts:
        """What the evidence is asked about."""
        mixture = self.mixture
        return Facts(
            total_parameters=self.total_parameters,
            active_parameters=self.active_parameters,
            vocabulary_parameters=mixture.vocabulary,
            active_vocabulary_parameters=mixture.active_vocabulary,
            ngram_parameters=self.ngram_parameters,
            num_experts=self.num_experts,
            num_experts_per_tok=mixture.top_k,
            max_order=self.max_order or None,
            num_subtables=self.num_subtables or None,
            hash_base=mixture.model.vocab_size,
            table_rows=(self.table_rows,) * self.num_tables,
            num_shortcut_layers=shortcut_layers(mixture.model),
            training_tokens=training_tokens,
            injection_layers=() if self.num_tables else None,
        )


def mixtures(model: ModelSpec, active: int | None, dtype: Dtype) -> list[Mixture]:
    """Widths of experts and top-k that keep the active parameters: the model's own product of both,
    cut finer or coarser, or what comes closest to ``active``.

    Raises:
        SpecError: the model has no experts that could vary.
        NoResultError: no width and top-k come within 2% of ``active``.
    """
    own = moe_of(model)
    width, top_k = own.expert.intermediate_size, own.top_k
    if active is not None:
        width, top_k = _closest(model, own, active)
    found = []
    for finer in _GRANULARITIES:
        if (width % finer == 0 and (width // finer) % _WIDTH_MULTIPLE == 0) or finer == 1:
            found.append((width // finer, top_k * finer))
    if top_k % 2 == 0:
        found.append((2 * width, top_k // 2))
    made = [_mixture(model, own, width, top_k, dtype) for width, top_k in found]
    wanted = active or most_active(Design(model=model))
    # Shared experts are as wide as routed ones in some families, and change with them.
    return [
        one for one in made if abs(one.at(one.active, own.num_experts) - wanted) <= _OFF * wanted
    ]


def _closest(model: ModelSpec, own: Experts, active: int) -> tuple[int, int]:
    """Width and top-k for ``active`` parameters: the model's width if it can be, else near it."""
    width = own.expert.intermediate_size
    choices = []
    for top_k in range(1, min(own.num_routed, 4 * own.top_k) + 1):
        for tried in {width, *range(_WIDTH_MULTIPLE, 4 * width + 1, _WIDTH_MULTIPLE)}:
            choices.append((tried, top_k))
    slope = own.expert.matmul_parameters // width * num_moe_layers(model)
    constant = most_active(Design(model=model)) - slope * width * own.active_range[1]

    def distance(choice: tuple[int, int]) -> tuple[int, int, int]:
        tried, top_k = choice
        away = abs(constant + slope * tried * top_k - active)
        # Anything within a hundredth is as good: then the model's own width, then its top-k.
        return (0 if 100 * away <= active else away, abs(tried - width), abs(top_k - own.top_k))

    best = min(choices, key=distance)
    found = constant + slope * best[0] * best[1]
    if abs(found - active) > _OFF * active:
        raise NoResultError(
            f"--active {active:,}: the model without routed experts has {constant:,} active "
            f"parameters and the nearest design {found:,}; experts cannot make up the difference"
        )
    return best


def _mixture(model: ModelSpec, own: Experts, width: int, top_k: int, dtype: Dtype) -> Mixture:
    keys = model.expert_keys
    assert keys is not None
    few = max(top_k, 2)
    changed = [
        with_keys(
            model,
            {keys.num_experts: few + more, keys.top_k: top_k, keys.intermediate_size: width},
        )
        for more in (0, 1)
    ]
    bytes_of = bytes_per_parameter(dtype)
    groups = [parameter_groups(Design(model=one)) for one in changed]

    def affine(counts: list[int]) -> tuple[int, int]:
        slope = counts[1] - counts[0]
        return counts[0] - few * slope, slope

    active = active_parameters(Design(model=changed[0]))[ACTIVE_CONVENTION]
    weights = [
        sum(count * bytes_of[group] for group, count in one.items() if group != "mtp")
        for one in groups
    ]
    read = [
        sum(
            count * bytes_of[group]
            for group, count in one.items()
            if group not in (*_LOOKED_UP, "experts", "mtp")
        )
        for one in groups
    ]
    if model.ties_embeddings:  # the head reads the word embedding
        read = [count + groups[0]["word_embedding"] * bytes_of["word_embedding"] for count in read]
    return Mixture(
        model=changed[0],
        intermediate_size=width,
        top_k=top_k,
        total=affine([total_parameters(Design(model=one)) for one in changed]),
        active=affine([most_active(Design(model=one)) for one in changed]),
        weight_bytes=affine(weights),
        read_bytes=affine(read),
        expert_bytes=(groups[1]["experts"] - groups[0]["experts"]) * bytes_of["experts"],
        num_zero_experts=own.num_zero_experts,
        vocabulary=groups[0]["word_embedding"] + groups[0]["lm_head"],
        active_vocabulary=vocabulary_counted(groups[0], active.groups),
    )


def trades(
    mixture: Mixture,
    total: int,
    shapes: tuple[tuple[int, int], ...],
    *,
    max_share: float,
    max_counts: int,
) -> Iterator[Trade]:
    """Every number of experts (``max_counts`` of them at most, evenly spread) from those that fill
    the total down to where tables have ``max_share`` of it; tables of every (N, K) of ``shapes``.
    """
    constant, slope = mixture.total
    most = (total - constant + slope // 2) // slope
    if most < mixture.top_k:
        return
    yield _trade(mixture, most, 0, 0, 0)
    fewest = max(mixture.top_k, 1, -(-int((1.0 - max_share) * total - constant) // slope))
    step = max(1, -(-(most - fewest) // max_counts))
    hidden_size, base = mixture.model.hidden_size, mixture.model.vocab_size
    for num_experts in range(most - 1, fewest - 1, -step):
        left = total - mixture.at(mixture.total, num_experts)
        for max_order, num_subtables in shapes:
            num_tables = (max_order - 1) * num_subtables
            width = hidden_size // num_tables
            projections = num_tables * width * hidden_size
            rows = (left - projections) // (width * num_tables) if width else 0
            if base <= rows <= MAX_TABLE_ROWS:
                yield _trade(mixture, num_experts, max_order, num_subtables, rows)


def _trade(
    mixture: Mixture, num_experts: int, max_order: int, num_subtables: int, rows: int
) -> Trade:
    num_tables = max(0, max_order - 1) * num_subtables
    hidden_size = mixture.model.hidden_size
    width = hidden_size // num_tables if num_tables else 0
    tables = num_tables * width * rows
    projections = num_tables * width * hidden_size
    return Trade(
        mixture=mixture,
        num_experts=num_experts,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=rows,
        total_parameters=mixture.at(mixture.total, num_experts) + tables + projections,
        ngram_parameters=tables,
        active_parameters=mixture.at(mixture.active, num_experts) + projections,
    )


def config_of(trade: Trade, ratio: float | None) -> dict[str, Any]:
    """config.json of the design, its tables at a ratio of LongCat's formula; without, no tables."""
    model = with_experts(trade.mixture.model, trade.num_experts)
    config = without_tables(model.config)
    if ratio is None:
        return config
    return with_longcat_tables(
        config, ratio=ratio, max_order=trade.max_order, num_subtables=trade.num_subtables
    )
