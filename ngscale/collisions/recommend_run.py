"""A budget of rows -> the record of ``--recommend``: propose, count where there is text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ngscale.collisions import recommend
from ngscale.collisions.proposals import FAMILIES, Budget, Family, propose
from ngscale.collisions.run import Counting, count_tables
from ngscale.collisions.threads import Progress
from ngscale.records import RunRecord
from ngscale.size_patch import ratio_key
from ngscale.spec import NgramSpec
from ngscale.tokens import TokenStream


def budget_of(spec: NgramSpec, config: Mapping[str, Any], *, multiple: int = 1) -> Budget:
    """The rows that a design of LongCat's hash has, rounded up to the multiple."""
    assert spec.hash_base is not None
    return Budget(
        base=spec.hash_base,
        orders=spec.table_orders,
        total_rows=sum(spec.table_rows) + (multiple - 1) * spec.num_tables,
        multiple=multiple,
        ratio=ratio_in_use(config),
    )


def ratio_in_use(config: Mapping[str, Any]) -> float | None:
    """That gives the rows of a config.json; None where they are listed or it has no tables."""
    key = ratio_key(config)
    return None if key is None else config.get(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """Whose tables are sized, within what."""

    target: str | None
    """What the record calls it."""
    budget: Budget
    config: Mapping[str, Any]
    """config.json of the target, that proposals patch; empty without a target."""
    current: Sequence[int] | None
    """The rows in use."""
    hidden_size: int | None
    """For bytes."""
    families: Sequence[Family] = FAMILIES


def recommend_sizes(
    sizing: Sizing,
    stream: TokenStream | None,
    source: Mapping[str, Any],
    progress: Progress,
    counting: Counting | None = None,
) -> RunRecord:
    """``recommend`` on the n-grams of ``stream``, or by arithmetic alone; ``source`` says where the
    stream came from.

    Raises:
        NoResultError: nothing sound within the budget.
        UsageError: the corpus is too short for an order.
    """
    budget = sizing.budget
    proposals = propose(budget, sizing.config, sizing.families)
    tables = None
    if stream is not None:
        tables = count_tables(stream, sorted(set(budget.orders)), counting or Counting())
    inputs = {
        **source,
        "target": sizing.target,
        "orders": list(budget.orders),
        "families": list(sizing.families),
        "multiple": budget.multiple,
        "hidden_size": sizing.hidden_size,
    }
    width = None if sizing.hidden_size is None else sizing.hidden_size // len(budget.orders)
    return recommend.recommend(budget, proposals, sizing.current, width, inputs, tables, progress)
