"""Options -> plan: which sizes of which orders are measured, and how much of each. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ngscale.collisions.grid import around_grid, ratio_grid
from ngscale.errors import UsageError
from ngscale.hashing.longcat import Polynomial
from ngscale.hashing.scheme import Scheme
from ngscale.spec import NgramSpec

Metrics = Literal["all", "sharing", "occupied"]
MAX_SIZES_IN_FULL = 4096
"""Longer sweeps measure sharing alone unless told otherwise, and are summarised."""
_FAST = ("sharing", "occupied")
"""Metrics that the polynomial's fast kernels count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """The per-sequence rule: so many sequences of so many tokens."""

    number: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for, each option parsed but none applied."""

    orders: tuple[int, int] = (2, 5)
    ratio: tuple[float, float] = (30.0, 33.0)
    around: float | None = None
    within: int = 2000
    step: int | None = None
    exhaustive: bool = False
    """Every size of the range."""
    adaptive: bool = False
    """Every size of the range, most of them predicted; ``sizes`` are counted besides."""
    sizes: Sequence[int] | None = None
    table_rows: Sequence[int] | None = None
    target: NgramSpec | None = None
    """A design whose own tables are measured."""
    sequences: Sequences | None = None
    """None for the pooled rule."""
    metrics: str | None = None

    def __post_init__(self) -> None:
        known = get_args(Metrics)
        if self.metrics is not None and self.metrics not in known:
            raise UsageError(f"--metrics {self.metrics}: takes {' or '.join(known)}")
        if self.exhaustive and self.adaptive:
            raise UsageError("--exhaustive and --adaptive contradict each other; keep one")
        of_range = (self.exhaustive and "--exhaustive") or (self.adaptive and "--adaptive")
        if of_range and self.step not in (None, 1):
            raise UsageError(f"{of_range} takes every size of the range, --step {self.step} not")
        listed = self.table_rows is not None or (self.sizes is not None and not self.adaptive)
        if of_range and (listed or self.target is not None):
            raise UsageError(f"{of_range} is for a range of sizes: --ratio LOW:HIGH or --around R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    scheme: Scheme
    sizes: Mapping[int, Sequence[int]]
    """Table sizes by n-gram order."""
    base: int
    """The number whose multiples the sizes are named after: the hash base, normally V0."""
    sequences: Sequences | None
    """None for the pooled rule."""
    together: bool
    """Whether the sizes of an order are its sub-tables, to be measured jointly too."""
    metrics: Metrics = "all"
    """``sharing`` leaves out what needs every row's traffic: purity, effective rows, the busiest
    row; ``occupied`` also what shares a row, but for the sizes that are listed."""
    adaptive: bool = False
    requested: Sequence[int] = ()
    """Sizes that an adaptive sweep may not predict."""

    @property
    def num_tables(self) -> int:
        """Tables to measure."""
        return sum(map(len, self.sizes.values()))

    @property
    def is_long(self) -> bool:
        """Whether there are too many sizes to list each in the record."""
        long = self.metrics in _FAST and _longest(self.sizes) > MAX_SIZES_IN_FULL
        return self.adaptive or long

    def describe(self, vocab_size: int) -> dict[str, Any]:
        """The plan as inputs of the record (sizes stand in the results)."""
        return {
            "scheme": self.scheme.describe(),
            "rule": "pooled" if self.sequences is None else "per-sequence",
            "sequences": None if self.sequences is None else self.sequences.number,
            "sequence_length": None if self.sequences is None else self.sequences.length,
            "base": self.base,
            "unit": "V0" if self.base == vocab_size else "base",
            "orders": sorted(self.sizes),
            "metrics": self.metrics,
            **({"adaptive": True, "requested": list(self.requested)} if self.adaptive else {}),
        }


def make_plan(request: Request, scheme: Scheme, *, vocab_size: int) -> Plan:
    """The sizes a target, a list, ``around`` or the range gives, in this order of precedence.

    Raises:
        UsageError: metrics that the scheme or the counting rule does not have, or too many sizes.
    """
    base = base_of(scheme, vocab_size)
    sizes = _sizes(request, base)
    return Plan(
        scheme=scheme,
        sizes=sizes,
        base=base,
        sequences=request.sequences,
        together=request.table_rows is not None or request.target is not None,
        metrics=_metrics(request, scheme, _longest(sizes)),
        adaptive=request.adaptive,
        requested=sorted(set(request.sizes or ())) if request.adaptive else (),
    )


def base_of(scheme: Scheme, vocab_size: int) -> int:
    """The number sizes are measured in: the scheme's own base, else V0."""
    base: int = scheme.describe().get("base", vocab_size)
    return base


def _sizes(request: Request, base: int) -> dict[int, list[int]]:
    if request.target is not None:
        return _own_sizes(request.target)
    if request.table_rows is not None:
        shared = list(request.table_rows)
    elif request.sizes is not None and not request.adaptive:
        shared = sorted(set(request.sizes))
    else:
        step = 1 if request.exhaustive or request.adaptive else request.step
        if request.around is not None:
            shared = around_grid(request.around, request.within, base, step)
        else:
            shared = ratio_grid(*request.ratio, base, step)
        if request.adaptive:
            shared = sorted({*shared, *(request.sizes or ())})
    low, high = request.orders
    return dict.fromkeys(range(low, high + 1), shared)


def _own_sizes(spec: NgramSpec) -> dict[int, list[int]]:
    sizes: dict[int, list[int]] = {order: [] for order in spec.orders}
    for order, rows in zip(spec.table_orders, spec.table_rows, strict=True):
        sizes[order].append(rows)
    return sizes


def _longest(sizes: Mapping[int, Sequence[int]]) -> int:
    return max(map(len, sizes.values()))


def _metrics(request: Request, scheme: Scheme, num_sizes: int) -> Metrics:
    is_fast = isinstance(scheme, Polynomial) and request.sequences is None
    asked = request.metrics
    if asked in _FAST and not is_fast:
        raise UsageError(f"--metrics {asked} goes with --scheme longcat and --rule pooled")
    if request.adaptive:
        if not is_fast:
            raise UsageError("--adaptive goes with --scheme longcat and --rule pooled")
        if asked not in (None, "occupied"):
            raise UsageError(f"--adaptive counts occupied rows; leave out --metrics {asked}")
        return "occupied"
    if asked is None:
        if not is_fast or num_sizes <= MAX_SIZES_IN_FULL:
            return "all"
        return "occupied" if request.exhaustive else "sharing"
    return next(name for name in get_args(Metrics) if name == asked)
