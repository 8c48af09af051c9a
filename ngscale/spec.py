"""NgramSpec: which table row each n-gram is looked up in. Pure data, stdlib only."""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ngscale.errors import SpecError, UsageError
from ngscale.policy import Policy

Amplification = Literal["none", "sqrt_d", "layernorm", "scalar"]
"""What is done to the input embedding before the first layer (arXiv:2601.21204, sec. 3.2.4)."""
Placement = Literal["input", "ple", "plne"]
"""Where the fused vector goes: to the residual stream before ``layers``, or as its start; or into
the dense feed-forward block of ``layers``, instead of the up-projection's output, as a word table
alone (PLE, arXiv:2601.21204 Eq. 4) or with n-gram tables (PLNE, Eq. 5)."""
RowFamily = Literal[
    "explicit", "longcat", "base_plus_2i", "consecutive_primes", "prime_pool", "single"
]
"""How the table sizes were chosen (D7); the constructors are in ``row_counts.py``."""
WordScale = Literal["mean", "sqrt_mean", "sum_only", "none"]
"""The factor of the word embedding beside E summed rows (D3): 1/(1+E), as theirs; 1/sqrt(1+E), as
theirs; 1, and 1/(1+E) for the sum alone; no division at all."""
Fusion = Literal["average", "concat", "concat_rows", "sum", "gated", "added"]
"""How the rows become one vector: projected and averaged with the word embedding; concatenated with
it or without it, and projected; projected and summed; gated by the hidden state; added as they
are."""

MAX_ORDER = 8
MAX_SUBTABLES = 4096
"""Of all orders; far above any model (24 a layer). A larger number in a config is a mistake."""
MAX_TABLE_ROWS = 2**31 - 1
"""Row ids are int32 in every inference engine that publishes its kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolynomialHash:
    """``sum_s c_s V**s``, exactly or in wrapping integers (D8).

    Raises:
        SpecError: a base below 2, or an order of powers that is not known in exact integers.
    """

    base: int
    """V; normally ``vocab_size`` in config.json, kept apart from it."""
    table_bases: tuple[int, ...] = ()
    """A base for every table, where they differ (BLT); empty: all have ``base``."""
    arithmetic: Literal["exact", "uint32", "int64"] = "exact"
    """``uint32``, ``int64``: powers, products and sum wrap to that type (Marin, BLT)."""
    oldest_first: bool = False
    """Whether the oldest token, not the newest, has power 0 (BLT)."""

    def __post_init__(self) -> None:
        """Refuse bases that are none."""
        for base in (self.base, *self.table_bases):
            if base < 2:
                raise SpecError(f"hash_base must be at least 2, got {base}")
        if self.oldest_first and self.arithmetic == "exact":
            raise SpecError("oldest_first is known in wrapping arithmetic only")

    def base_of(self, table: int) -> int:
        """V of table ``i``."""
        return self.table_bases[table] if self.table_bases else self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class XorHash:
    """``(c_0 m_0) xor (c_1 m_1) xor ...``, below 2**63 or in wrapping int32 (D8).

    Raises:
        SpecError: a multiplier is even or below 1.
    """

    multipliers: tuple[int, ...]
    """m_s for the token s places back."""
    arithmetic: Literal["exact", "int32"] = "exact"

    def __post_init__(self) -> None:
        """Refuse even multipliers, which would lose the low bit of every product."""
        for multiplier in self.multipliers:
            if multiplier < 1 or multiplier % 2 == 0:
                raise SpecError(f"multipliers must be odd, got {multiplier}")


Hash = PolynomialHash | XorHash


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramSpec:
    """Hashed tables for n-grams: at position p table i reads row ``hash(c_0..c_(n-1)) mod rows_i``.

    ``policy`` says what c_0..c_(n-1) are, ``hash`` what is done with them, ``table_orders`` how
    many of them table i takes. Fields D1..D14 are the points on which implementations disagree
    (docs/method.md). ``row_family`` only says where ``table_rows`` came from.

    Raises:
        SpecError: fields contradict each other, or the arithmetic could overflow 64 bits.
    """

    hash: Hash
    vocab_size: int
    """The ids that are hashed are below it."""
    table_orders: tuple[int, ...]
    """n of every table, normally order-major: ``order_major(N, K)``. Order 1 is the token alone."""
    table_rows: tuple[int, ...]
    """Rows of each table, which is also its modulus."""
    policy: Policy
    row_family: RowFamily = "explicit"
    reserved_rows: Literal[0, 1] = 0
    """A row behind the hashed ones, for positions without an n-gram (modded-nanogpt)."""
    row_multiple: int = 1
    """Stored rows are padded to a multiple of it (D10); the modulus is not."""
    padded_together: bool = False
    """Whether the tables are stored as one and padded once."""
    compressed_vocab: int | None = None
    """Ids after merging tokens of equal normal form, where the hash takes those (Engram)."""
    row_width: int | None = None
    """Columns of a table, where they are not ``hidden_size // E``."""
    fusion: Fusion = "average"
    word_scale: WordScale = "mean"
    layers: tuple[int, ...] = ()
    """Indices of the layers that read the rows (0-based); empty: the input embedding."""
    amplification: Amplification = "none"
    """Applied to the fused input embedding, before the first layer."""
    amplification_factor: float = 1.0
    """Of ``scalar``."""
    placement: Placement = "input"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself and what could overflow."""
        if not self.table_orders or len(self.table_rows) != len(self.table_orders):
            raise SpecError(
                f"table_rows: {len(self.table_orders)} tables need {len(self.table_orders)} sizes, "
                f"got {len(self.table_rows)}"
            )
        for order in self.table_orders:
            if not 1 <= order <= MAX_ORDER:
                raise SpecError(f"table_orders: must be 1..{MAX_ORDER}, got {order}")
        if self.vocab_size < 2:
            raise SpecError(f"vocab_size must be at least 2, got {self.vocab_size}")
        if self.row_multiple < 1:
            raise SpecError(f"row_multiple must be at least 1, got {self.row_multiple}")
        for field, kind in _WORDS.items():
            if (value := getattr(self, field)) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise SpecError(f"{field} must be one of {known}, got {value!r}")
        policy = self.policy
        for field, tokens in (
            ("boundary_tokens", policy.boundary_tokens),
            ("fill", (policy.fill or 0,)),
        ):
            for token in tokens:
                if token >= self.vocab_size:
                    raise SpecError(f"{field}: token {token} is not below {self.vocab_size}")
        has_reserved = self.num_tables == 1 and self.reserved_rows == 1
        if self.policy.start.startswith("reserved_row") and not has_reserved:
            raise SpecError(f"start {self.policy.start} needs one table with reserved_rows 1")
        self._check_arithmetic()
        self._check_placement()

    def _check_placement(self) -> None:
        if self.placement != "input" and len(self.layers) != 1:
            raise SpecError(f"placement {self.placement} is of one layer, got {self.layers}")
        if self.placement == "ple" and (self.table_orders, self.table_rows) != (
            (1,),
            (self.vocab_size,),
        ):
            raise SpecError(f"placement ple is one table of order 1 with {self.vocab_size} rows")
        if self.amplification_factor != 1 and self.amplification != "scalar":
            raise SpecError(f"amplification {self.amplification} has no factor of its own to set")
        if self.amplification != "none" and (self.layers or self.placement != "input"):
            raise SpecError(f"amplification {self.amplification} is of the input embedding only")
        if self.amplification_factor <= 0:
            raise SpecError(
                f"amplification_factor must be positive, got {self.amplification_factor}"
            )

    def _check_arithmetic(self) -> None:
        if isinstance(self.hash, PolynomialHash):
            if self.hash.table_bases and len(self.hash.table_bases) != self.num_tables:
                raise SpecError(
                    f"table_bases: {self.num_tables} tables need as many bases, "
                    f"got {len(self.hash.table_bases)}"
                )
            for rows in self.table_rows:
                if self.hash.arithmetic == "exact":
                    check_rows(rows, hash_base=self.vocab_size, max_order=self.max_order)
                else:
                    check_row_count(rows)
            return
        for rows in self.table_rows:
            check_row_count(rows)
        if self.max_order > len(self.hash.multipliers):
            raise SpecError(
                f"multipliers: order {self.max_order} needs {self.max_order}, "
                f"got {len(self.hash.multipliers)}"
            )
        largest = max(self.hash.multipliers[: self.max_order])
        if self.hash.arithmetic == "exact" and (self.vocab_size - 1) * largest >= 2**63:
            raise SpecError(
                f"multiplier {largest} times id {self.vocab_size - 1} overflows 63 bits"
            )

    @property
    def num_tables(self) -> int:
        """E."""
        return len(self.table_orders)

    @property
    def max_order(self) -> int:
        """N, the longest n-gram."""
        return max(self.table_orders)

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders that have a table, ascending."""
        return tuple(sorted(set(self.table_orders)))

    @property
    def num_subtables(self) -> int | None:
        """K, tables per order; None where the tables are not K per order 2..N, order-major."""
        if self.max_order == 1:
            return None
        subtables, rest = divmod(self.num_tables, self.max_order - 1)
        if rest or self.table_orders != order_major(self.max_order, subtables):
            return None
        return subtables

    @property
    def hash_base(self) -> int | None:
        """V of a polynomial with one base for all tables, in exact integers; else None.

        Resonances and the joint certificate are theorems about such a polynomial only.
        """
        if isinstance(self.hash, XorHash) or self.hash.table_bases or self.hash.oldest_first:
            return None
        return self.hash.base if self.hash.arithmetic == "exact" else None

    def tables_of(self, order: int) -> tuple[int, ...]:
        """The tables that serve an order."""
        return tuple(i for i, n in enumerate(self.table_orders) if n == order)

    @property
    def largest_id(self) -> int:
        """The largest token id whose hash cannot overflow: ids may exceed ``vocab_size`` where a
        model has more tokens than it hashes by (LongCat-Next).
        """
        bound = 2**32 - 1
        if self.hash.arithmetic != "exact":
            return bound
        if isinstance(self.hash, XorHash):
            return min(bound, (2**63 - 1) // max(self.hash.multipliers[: self.max_order]))
        return min(bound, (2**64 - 1) // (self.max_order * max(1, max(self.table_rows) - 1)))

    def readable_rows(self, table: int) -> int:
        """Rows of a table that a position can read: hashed and reserved ones."""
        return self.table_rows[table] + self.reserved_rows

    @property
    def table_starts(self) -> tuple[int, ...]:
        """First row of every table where they are stored one below the other, padding between."""
        return (0, *itertools.accumulate(self._stored_rows()[:-1]))

    @property
    def physical_rows(self) -> int:
        """Rows stored in all tables, reserved and padding rows included."""
        stored = sum(self._stored_rows())
        return self._padded(stored) if self.padded_together else stored

    def _stored_rows(self) -> list[int]:
        """Of every table, padded where each is padded by itself."""
        sizes = [self.readable_rows(table) for table in range(self.num_tables)]
        return sizes if self.padded_together else [self._padded(size) for size in sizes]

    def _padded(self, rows: int) -> int:
        return math.ceil(rows / self.row_multiple) * self.row_multiple


_WORDS = {
    "row_family": RowFamily,
    "fusion": Fusion,
    "word_scale": WordScale,
    "amplification": Amplification,
    "placement": Placement,
}


def order_major(max_order: int, num_subtables: int) -> tuple[int, ...]:
    """Orders of (N-1)*K tables, table ``i = (n-2)*K + k``.

    Raises:
        SpecError: an order out of range, or no table at all.
    """
    if not 2 <= max_order <= MAX_ORDER:
        raise SpecError(f"max_order must be 2..{MAX_ORDER}, got {max_order}")
    most = MAX_SUBTABLES // (max_order - 1)
    if not 1 <= num_subtables <= most:
        raise SpecError(f"num_subtables must be 1..{most}, got {num_subtables}")
    return tuple(n for n in range(2, max_order + 1) for _ in range(num_subtables))


def longcat_spec(
    *,
    vocab_size: int,
    max_order: int,
    num_subtables: int,
    table_rows: tuple[int, ...],
    policy: Policy,
    row_family: RowFamily = "explicit",
    amplification: Amplification = "none",
) -> NgramSpec:
    """LongCat's tables: the polynomial in base ``vocab_size``, K tables for each order 2..N.

    Source: arXiv:2601.21204 Eq. 2 and LongCat-Flash-Lite's ``modeling_longcat_ngram.py``.

    Raises:
        SpecError: the numbers contradict each other, or the arithmetic could overflow.
    """
    return NgramSpec(
        hash=PolynomialHash(base=vocab_size),
        vocab_size=vocab_size,
        table_orders=order_major(max_order, num_subtables),
        table_rows=table_rows,
        policy=policy,
        row_family=row_family,
        amplification=amplification,
    )


def capacity_1(spec: NgramSpec) -> NgramSpec:
    """The placebo: tables of one row, which add the same vector to every token."""
    return replace(spec, table_rows=(1,) * spec.num_tables, row_family="explicit")


def check_hashed(title: str, spec: NgramSpec, num_ids: int) -> None:
    """Refuse a tokenizer with ids that the design does not hash.

    Raises:
        UsageError: names both numbers.
    """
    if num_ids > spec.vocab_size:
        what = "compressed ids" if spec.compressed_vocab is not None else "ids"
        raise UsageError(
            f"{title} hashes {what} below {spec.vocab_size:,}, the tokenizer has {num_ids:,}; use "
            "its own --tokenizer"
        )


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
