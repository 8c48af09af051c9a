"""Table sizes to choose instead: number theory within a budget, no corpus."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ngscale.errors import NoResultError, UsageError
from ngscale.lattice_score import lattice_scores
from ngscale.ngram_config import EXTENSION_KEY
from ngscale.row_counts import consecutive_primes, longcat_rows
from ngscale.size_patch import ratio_key, rows_patch
from ngscale.spec import MAX_TABLE_ROWS
from ngscale.table_sizes import allowed_gcd, is_sound, sound_ratio

Family = Literal["longcat", "primes", "explicit"]
FAMILIES = get_args(Family)
_RATIOS_TRIED = 400
"""Thousandths of V below the budget that a family may use: 0.4 x V of every table at most."""
_SPREAD = 0.3
"""Of V between the explicit sizes of an order: their short vectors then differ."""
_REACH = 1500
"""Rows around each target among which the best size of a bigram table is taken."""
_LONGER_REACH = 60
"""The same for longer n-grams, most of whose sizes are as good as an ideal hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What the tables may hold."""

    base: int
    orders: tuple[int, ...]
    """n of every table, order-major."""
    total_rows: int
    """Of all tables, as stored."""
    multiple: int = 1
    """Stored rows of every table are padded to a multiple of it; the modulus is not."""
    ratio: float | None = None
    """The ratio in use, where there is one."""

    def __post_init__(self) -> None:
        """Refuse what no sizes can meet."""
        if self.total_rows < len(self.orders) * (self.multiple + 2 * _REACH):
            padded = f" padded to multiples of {self.multiple:,}" if self.multiple > 1 else ""
            raise NoResultError(
                f"{self.total_rows:,} rows are too few for {len(self.orders)} tables{padded}; "
                "raise the budget or use fewer tables"
            )
        if self.mean_rows > MAX_TABLE_ROWS:
            raise NoResultError(
                f"{self.total_rows:,} rows in {len(self.orders)} tables are "
                f"{self.mean_rows:,.0f} a table, engines take {MAX_TABLE_ROWS:,} at most; lower "
                "the budget or use more tables (--subtables)"
            )

    @property
    def mean_rows(self) -> float:
        """Rows of a table if all are equal."""
        return self.total_rows / len(self.orders)

    def stored(self, table_rows: Sequence[int]) -> int:
        """Rows stored, padding included."""
        return sum(math.ceil(rows / self.multiple) * self.multiple for rows in table_rows)

    def allows(self, table_rows: Sequence[int]) -> bool:
        """Whether the tables fit, and engines can number each one's rows."""
        return self.stored(table_rows) <= self.total_rows and max(table_rows) <= MAX_TABLE_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Sizes for every table."""

    name: str
    table_rows: tuple[int, ...]
    patch: Mapping[str, Any]
    """Keys of config.json."""
    for_whom: str
    """Who can use it, in a sentence."""


_NEW_IDS = "A trained checkpoint cannot take it: every row id changes."


def propose(
    budget: Budget, config: Mapping[str, Any], families: Sequence[Family]
) -> list[Proposal]:
    """Every proposal that exists, each sound by every check of the audit.

    ``config`` is the config.json that they patch, empty where there is none.

    Raises:
        NoResultError: there is none.
    """
    makers: dict[Family, Callable[[], Proposal | None]] = {
        "longcat": lambda: _best_ratio(budget, config),
        "primes": lambda: _best_primes(budget, config),
        "explicit": lambda: _explicit(budget, config),
    }
    found = [_smallest_change(budget, config)] if "longcat" in families else []
    found += [makers[family]() for family in families]
    proposals: list[Proposal] = []
    for proposal in found:
        seen = {earlier.table_rows for earlier in proposals}
        if proposal is not None and proposal.table_rows not in seen:
            proposals.append(proposal)
    if not proposals:
        raise NoResultError(
            f"no sizes of the families {', '.join(families)} within {budget.total_rows:,} rows "
            "pass the audit; change the budget or the number of tables"
        )
    return proposals


def _smallest_change(budget: Budget, config: Mapping[str, Any]) -> Proposal | None:
    key = ratio_key(config)
    if budget.ratio is None or key is None:
        return None
    ratio = sound_ratio(budget.ratio, budget.base, budget.orders)
    if ratio is None:
        return None
    return Proposal(
        name="smallest change",
        table_rows=longcat_rows(ratio, budget.base, len(budget.orders)),
        patch={key: ratio},
        for_whom=f"Every engine that reads {key} loads it. {_NEW_IDS}",
    )


def _best_ratio(budget: Budget, config: Mapping[str, Any]) -> Proposal | None:
    ratio, rows = _best_of(budget, lambda r: longcat_rows(r, budget.base, len(budget.orders)))
    if rows is None:
        return None
    key = ratio_key(config)
    if key is None:
        return _listed("best ratio", rows, config)
    return Proposal(
        name="best ratio",
        table_rows=rows,
        patch={key: ratio},
        for_whom=f"Every engine that reads {key} loads it. {_NEW_IDS}",
    )


_NO_LOADER = (
    "No released loader takes explicit sizes: an engine has to read them from ngscale.table_rows."
)


def _listed(
    name: str,
    table_rows: tuple[int, ...],
    config: Mapping[str, Any],
    *,
    for_whom: str = _NO_LOADER,
) -> Proposal:
    """Sizes that config.json lists; ``for_whom`` where that is in ngscale's own block."""
    patch = rows_patch(config, table_rows)
    if EXTENSION_KEY not in patch:
        for_whom = f"Every engine that reads {', '.join(patch)} loads it."
    return Proposal(
        name=name, table_rows=table_rows, patch=patch, for_whom=f"{for_whom} {_NEW_IDS}"
    )


def _best_primes(budget: Budget, config: Mapping[str, Any]) -> Proposal | None:
    _, rows = _best_of(budget, lambda r: consecutive_primes(r * budget.base, len(budget.orders)))
    if rows is None:
        return None
    who = (
        "An engine must take explicit sizes, or Nanbeige4.2's ngram_mod_force_prime with this base."
    )
    return _listed("consecutive primes", rows, config, for_whom=who)


def _best_of(
    budget: Budget, sizes_at: Callable[[float], tuple[int, ...]]
) -> tuple[float, tuple[int, ...] | None]:
    """The sound member of a family within the budget whose worst table scores lowest."""
    ratios, members = [], []
    for ratio in _ratios_below(budget):
        rows = sizes_at(ratio)
        if budget.allows(rows) and rows not in members:
            ratios.append(ratio)
            members.append(rows)
    if not members:
        return 0.0, None
    worst = _worst_scores(members, budget)
    for i in np.argsort(worst, kind="stable"):
        if is_sound(members[i], budget.base, budget.orders):
            return ratios[i], members[i]
    return 0.0, None


def _ratios_below(budget: Budget) -> Iterator[float]:
    top = int(1000 * budget.mean_rows / budget.base) + 1
    return (k / 1000 for k in range(top, max(top - _RATIOS_TRIED, 1000), -1))


def _worst_scores(members: Sequence[tuple[int, ...]], budget: Budget) -> np.ndarray:
    """The highest lattice score of each member's tables."""
    sizes = np.array(members, dtype=np.int64)
    worst = np.zeros(len(members))
    for order in sorted(set(budget.orders)):
        own = sizes[:, [i for i, n in enumerate(budget.orders) if n == order]]
        scores = lattice_scores(own.ravel().tolist(), budget.base, order).reshape(own.shape)
        worst = np.maximum(worst, scores.max(axis=1))
    return worst


def _explicit(budget: Budget, config: Mapping[str, Any]) -> Proposal | None:
    """Sizes ``_SPREAD`` x V apart within an order, each the best scored near its target.

    They are coprime with the base and with each other within an order, so that any two bigram
    tables tell all bigrams apart (docs/method.md).
    """
    chosen: dict[int, int] = {}
    for order in sorted(set(budget.orders)):
        tables = [i for i, n in enumerate(budget.orders) if n == order]
        for place, table in enumerate(tables):
            target = _target(budget, place, len(tables))
            others = [chosen[i] for i in tables[:place]]
            best = _best_near(target, order, others, budget)
            if best is None:
                return None
            chosen[table] = best
    rows = tuple(chosen[i] for i in range(len(budget.orders)))
    if not budget.allows(rows) or not is_sound(rows, budget.base, budget.orders):
        return None
    return _listed("explicit rows", rows, config)


def _target(budget: Budget, place: int, num_tables: int) -> int:
    """Symmetric about the mean, a little below, so that the sum cannot exceed the budget."""
    step = min(_SPREAD * budget.base, budget.mean_rows / (2 * num_tables))
    centre = budget.mean_rows - _REACH - budget.multiple
    return int(centre + (place - (num_tables - 1) / 2) * step)


def _best_near(target: int, order: int, others: Sequence[int], budget: Budget) -> int | None:
    reach = _REACH if order == 2 else _LONGER_REACH
    sizes = [
        rows
        for rows in range(target - reach, min(target + reach, MAX_TABLE_ROWS) + 1)
        if allowed_gcd(1, math.gcd(rows, budget.base))
        and all(math.gcd(rows, other) == 1 for other in others)
    ]
    if not sizes:
        return None
    scores = lattice_scores(sizes, budget.base, order)
    for i in np.argsort(scores, kind="stable"):
        if is_sound((sizes[i],), budget.base, (order,)):
            return int(sizes[i])
    return None


def parse_families(text: str | None) -> tuple[Family, ...]:
    """``--family``: one, several, or all.

    Raises:
        UsageError: an unknown one.
    """
    if text is None:
        return FAMILIES
    wanted = text.split(",")
    for name in wanted:
        if name not in FAMILIES:
            raise UsageError(f"--family {name}: takes {', '.join(FAMILIES)}")
    return tuple(family for family in FAMILIES if family in wanted)
