"""What the design is compared with: equivalent MoE, placebos, base, and what is asked for."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from ngscale.architectures import with_keys
from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.design import Design
from ngscale.errors import InputError, SpecError, UsageError
from ngscale.lattice import relative_length, shortest_ngram_vector
from ngscale.params import (
    most_active,
    parameter_equivalent_moe,
    total_parameters,
)
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, PolynomialHash, capacity_1
from ngscale.table_sizes import sound_ratio
from ngscale.train_small.config import Arm
from ngscale.units import format_share

DESIGN_ARM = "design"
MOE_ARM = "equivalent-moe"
CAPACITY_1_ARM = "capacity-1"
UNIGRAM_ARM = "unigram-tables"
BASE_ARM = "base-moe"
_ON_REQUEST = ("iso-flop", "amplification", "ideal-hash", "table-rows=xF", "table-rows=M,M,...")
EXTRA_ARMS = (CAPACITY_1_ARM, UNIGRAM_ARM, BASE_ARM, *_ON_REQUEST)
"""The first three are there anyway, but where there are several candidates."""

_MAX_TOTAL_GAP = 0.01
_WIDTH_STEP = 8
"""Columns of 16 bytes in bfloat16, to which the kernels of grouped products are aligned."""
_GOOD_LENGTH = 0.5
"""Relative lattice length above which a base has no resonance (docs/method.md)."""


def make_arms(design: Design, extra: Sequence[str] = (), *, candidate: str = "") -> tuple[Arm, ...]:
    """The design and all it is compared with; several candidates have two arms each, and extras.

    ``capacity-1``: a table of one row adds the same vector to every token; the projections and the
    division by 1 + E stay. ``unigram-tables``: the same tables, indexed by the current token alone.
    ``base-moe``: the backbone without tables, with fewer parameters.

    Raises:
        InputError: the design has no tables, or no number of experts comes within 1% of its total.
        UsageError: an extra arm is not known, or not possible of this design.
    """
    if not design.ngrams:
        raise InputError("the design has no n-gram tables, so there is nothing to compare")
    made = {DESIGN_ARM: design, MOE_ARM: _equivalent_moe(design)}
    if not candidate:
        extra = (CAPACITY_1_ARM, UNIGRAM_ARM, BASE_ARM, *extra)
    for name in dict.fromkeys(extra):
        try:
            made[name] = _extra(design, name)
        except SpecError as error:
            raise UsageError(f"--arm {name}: {error}") from error
    prefix = f"{candidate}/" if candidate else ""
    return tuple(Arm(name=prefix + name, design=one) for name, one in made.items())


def _each(design: Design, change: Callable[[NgramSpec], NgramSpec]) -> Design:
    return replace(design, ngrams=tuple(change(spec) for spec in design.ngrams))


def _equivalent_moe(design: Design) -> Design:
    moe = parameter_equivalent_moe(design)
    wanted, found = total_parameters(design), total_parameters(moe)
    if abs(found / wanted - 1) > _MAX_TOTAL_GAP:
        raise InputError(
            f"no whole number of experts brings the MoE within {format_share(_MAX_TOTAL_GAP)} of "
            f"the design's {wanted:,} parameters (nearest {found:,}); change "
            "moe_intermediate_size or table_rows"
        )
    return moe


def unigram(spec: NgramSpec) -> NgramSpec:
    """The same tables, read at the current token's id alone: each has its own size as its base.

    ``c_0 + c_1 M + c_2 M^2 + ... mod M`` is ``c_0 mod M``, the id itself where M exceeds it.
    Policies that replace ids or read a fixed row do so as before.

    Raises:
        SpecError: a table has fewer than two rows.
    """
    own = PolynomialHash(base=spec.vocab_size, table_bases=spec.table_rows)
    return replace(spec, hash=own)


def _extra(design: Design, name: str) -> Design:
    kind, _, value = name.partition("=")
    if name == BASE_ARM:
        return Design(model=design.model)
    if name == "iso-flop":
        return _iso_flop(design)
    if name in _CHANGED_TABLES:
        return _each(design, _CHANGED_TABLES[name])
    if kind == "table-rows" and value:
        return _with_rows(design, value)
    raise UsageError(f"--arm {name}: known are {', '.join(EXTRA_ARMS)}")


def _iso_flop(design: Design) -> Design:
    """The equivalent MoE with experts so much wider that a token costs what it costs the design.

    Weights multiplied count, as in ``active_parameters``. Experts get fewer so that the total
    stays, and router rows with them, which are active too.

    Raises:
        UsageError: no width comes nearer than the equivalent MoE's own.
    """
    width = DecoderConfig.of(design.model).moe_intermediate_size
    widths = range(width, 2 * width + _WIDTH_STEP, _WIDTH_STEP)
    wanted = most_active(design)
    nearest = min(widths, key=lambda w: abs(most_active(_of_width(design, w)) - wanted))
    if nearest == width:
        gap = format_share(abs(most_active(_of_width(design, width)) / wanted - 1))
        raise UsageError(
            f"--arm iso-flop: a token costs {MOE_ARM} what it costs the design up to {gap}; no "
            f"width of experts in steps of {_WIDTH_STEP} comes nearer"
        )
    return _of_width(design, nearest)


def _of_width(design: Design, width: int) -> Design:
    """The MoE of the design's total with experts of this width."""
    few = DecoderConfig.of(design.model).num_experts_per_tok

    def made(count: int) -> Design:
        keys = {"moe_intermediate_size": width, "num_experts": count}
        return Design(model=with_keys(design.model, keys))

    base = total_parameters(made(few))
    each = total_parameters(made(few + 1)) - base
    return made(few + max(0, round((total_parameters(design) - base) / each)))


def _toggled(spec: NgramSpec) -> NgramSpec:
    """Without its amplification; with sqrt(D) where it has none."""
    on = spec.amplification != "none"
    return replace(spec, amplification="none" if on else "sqrt_d", amplification_factor=1.0)


def random_bases(spec: NgramSpec) -> NgramSpec:
    """The nearest to the ideal hash that a spec can say: a random base for every table.

    Rows are then independent of any other table's, and bigrams share one as rarely as their
    number demands: bases whose lattice is short are passed over.

    Raises:
        SpecError: a table is too small for a base without resonance.
    """
    order = min(2, spec.max_order)
    bases = tuple(_random_base(i, rows, order) for i, rows in enumerate(spec.table_rows))
    return replace(spec, hash=PolynomialHash(base=spec.vocab_size, table_bases=bases))


_CHANGED_TABLES = {
    CAPACITY_1_ARM: capacity_1,
    UNIGRAM_ARM: unigram,
    "amplification": _toggled,
    "ideal-hash": random_bases,
}


def _random_base(table: int, rows: int, order: int) -> int:
    for attempt in range(1000):
        digest = hashlib.blake2b(f"{table}:{rows}:{attempt}".encode(), digest_size=8).digest()
        base = int.from_bytes(digest, "little") % rows
        if base < 2 or math.gcd(base, rows) != 1:
            continue
        if order < 2:
            return base
        if relative_length(shortest_ngram_vector(rows, base, 2), rows) >= _GOOD_LENGTH:
            return base
    raise SpecError(f"{rows} rows have no base without resonance")


def _with_rows(design: Design, value: str) -> Design:
    spec = design.ngram
    if spec is None:
        raise UsageError("--arm table-rows: the design has tables of several kinds")
    if not value.startswith("x"):
        try:
            rows = tuple(int(part) for part in value.split(","))
        except ValueError as error:
            raise UsageError(f"--arm table-rows={value}: takes xF or whole numbers") from error
    else:
        rows = _scaled(spec, value)
    return replace(design, ngrams=(replace(spec, table_rows=rows, row_family="explicit"),))


def _scaled(spec: NgramSpec, value: str) -> tuple[int, ...]:
    """The sizes of the sound ratio nearest to so many times the design's."""
    try:
        factor = float(value[1:])
    except ValueError as error:
        raise UsageError(f"--arm table-rows={value}: xF takes a number") from error
    V = spec.hash_base
    if V is None or not 0 < factor < math.inf:
        raise UsageError(f"--arm table-rows={value}: needs LongCat's hash and a positive number")
    wanted = round(factor * spec.table_rows[0] / V, 3)
    ratio = sound_ratio(wanted, V, spec.table_orders)
    if ratio is None:
        raise UsageError(f"--arm table-rows={value}: no sizes near {wanted} x {V} pass the audit")
    return longcat_rows(ratio, V, spec.num_tables)
