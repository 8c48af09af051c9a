"""NgramSpec: which table row each n-gram is looked up in. Pure data, stdlib only."""

from dataclasses import dataclass
from typing import Literal, get_args

from ngscale.errors import SpecError

Amplification = Literal["none", "sqrt_d", "layernorm"]
"""What is done to the input embedding before the first layer (arXiv:2601.21204, sec. 3.2.4)."""

MAX_ORDER = 8
MAX_TABLE_ROWS = 2**31 - 1
"""Row ids are int32 in every inference engine that publishes its kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramSpec:
    """Hashed tables for n-grams of orders 2..N, K tables per order (LongCat polynomial).

    The n-gram ending at position p goes to row ``sum_s c_s * V**s mod rows`` of each of its
    order's tables, s = 0..n-1, where ``c_s`` is the token s places back, or 0 where there is
    none (start of a document, or beyond a boundary). Tables are numbered order-major,
    ``i = (n-2)*K + k``. Source: arXiv:2601.21204 Eq. 2 and LongCat-Flash-Lite's
    ``modeling_longcat_ngram.py``.
    """

    hash_base: int
    """V: the base of the polynomial; normally ``vocab_size`` in config.json, kept apart from it."""
    max_order: int
    """N: the longest n-gram; orders are 2..N."""
    num_subtables: int
    """K: tables per order. They differ only in their number of rows."""
    table_rows: tuple[int, ...]
    """Rows of each table, which is also its modulus; (N-1)*K of them."""
    boundary_token: int | None
    """The id that closes its own segment (policy ``hf``), or None: nothing resets (``no_eos``)."""
    amplification: Amplification = "none"
    """Applied to the fused embedding, before the first layer."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself and what could overflow."""
        if not 2 <= self.max_order <= MAX_ORDER:
            raise SpecError(f"max_order must be 2..{MAX_ORDER}, got {self.max_order}")
        if self.num_subtables < 1:
            raise SpecError(f"num_subtables must be at least 1, got {self.num_subtables}")
        if self.hash_base < 2:
            raise SpecError(f"hash_base must be at least 2, got {self.hash_base}")
        if len(self.table_rows) != self.num_tables:
            raise SpecError(
                f"table_rows: orders 2..{self.max_order} with {self.num_subtables} tables each "
                f"need {self.num_tables} sizes, got {len(self.table_rows)}"
            )
        if self.boundary_token is not None and self.boundary_token < 0:
            raise SpecError(f"boundary_token must not be negative, got {self.boundary_token}")
        if self.amplification not in get_args(Amplification):
            known = ", ".join(get_args(Amplification))
            raise SpecError(f"amplification must be one of {known}, got {self.amplification!r}")
        for rows in self.table_rows:
            check_rows(rows, hash_base=self.hash_base, max_order=self.max_order)

    @property
    def num_tables(self) -> int:
        """E = (N-1)*K."""
        return (self.max_order - 1) * self.num_subtables

    @property
    def orders(self) -> range:
        """2..N."""
        return range(2, self.max_order + 1)

    @property
    def policy(self) -> str:
        """``hf`` (a boundary token closes its segment) or ``no_eos`` (nothing resets)."""
        return "no_eos" if self.boundary_token is None else "hf"

    def order_of(self, table: int) -> int:
        """The n-gram order that table ``i`` serves."""
        return table // self.num_subtables + 2


def check_row_count(rows: int) -> None:
    """Refuse a table size that is not a size.

    Raises:
        SpecError: names the size and the bound.
    """
    if not 1 <= rows <= MAX_TABLE_ROWS:
        raise SpecError(f"table rows must be 1..{MAX_TABLE_ROWS}, got {rows}")


def check_rows(rows: int, *, hash_base: int, max_order: int) -> None:
    """Refuse a table size that is not a size, or that breaks 64-bit exactness.

    The kernels add up to ``max_order`` products ``token * (V**s mod rows)`` in uint64.

    Raises:
        SpecError: names the size and the bound it breaks.
    """
    check_row_count(rows)
    if max_order * (hash_base - 1) * (rows - 1) >= 2**64:
        raise SpecError(
            f"table rows {rows} with hash base {hash_base} overflow 64 bits at order {max_order}"
        )


def longcat_rows(ratio: float, vocab_size: int, num_tables: int) -> tuple[int, ...]:
    """``int(ratio*V + 2i + 1)``: the table sizes of the released LongCat code.

    The float arithmetic is part of the format: a fractional ratio gives the same sizes as
    ``modeling_longcat_ngram.py`` only when it is evaluated in this order.
    """
    size = ratio * vocab_size
    return tuple(int(size + 2 * i + 1) for i in range(num_tables))
