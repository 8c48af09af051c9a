"""What shares a cache: the rows of one table, of an order's tables, or of all."""

from collections.abc import Sequence
from dataclasses import dataclass

from ngscale.spec import NgramSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Tables whose rows lie in one cache."""

    name: str
    kind: str
    """``table``, ``order`` or ``all``."""
    order: int | None
    """n of all its tables; None where they differ."""
    tables: tuple[int, ...]


def scopes(specs: Sequence[NgramSpec]) -> list[Scope]:
    """Every table, every order, and all tables of a design; tables of several layers in turn."""
    orders = [order for spec in specs for order in spec.table_orders]
    found = [
        Scope(name=f"table {table} ({order}-grams)", kind="table", order=order, tables=(table,))
        for table, order in enumerate(orders)
    ]
    for order in sorted(set(orders)):
        tables = tuple(table for table, n in enumerate(orders) if n == order)
        found.append(Scope(name=f"{order}-grams", kind="order", order=order, tables=tables))
    everything = tuple(range(len(orders)))
    return [*found, Scope(name="all tables", kind="all", order=None, tables=everything)]
