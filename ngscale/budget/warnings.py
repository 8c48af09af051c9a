"""What the arithmetic of a design alone says against it, as sentences. The audit looks closer."""

from ngscale.design import Design
from ngscale.params import parameter_groups, total_parameters
from ngscale.spec import MAX_TABLE_ROWS, NgramSpec
from ngscale.units import format_share

NEAR_MULTIPLE_FRAC = 0.001
"""Closer to a multiple of the hash base than this part of it is near: 131 rows for Lite. One
table in 500 of unrelated size would be."""
SHARE_CAP = 0.5
"""Of the total that tables hold: Principle 2 of arXiv:2601.21204, measured at 280M active."""


def warnings(design: Design) -> list[str]:
    """The warnings that hold for ``design``, none where it has no tables."""
    if not design.ngrams:
        return []
    found = [_large_share(design)]
    for spec in design.ngrams:
        found += [_near_multiples(spec), _beyond_int32(spec)]
    return [sentence for sentence in found if sentence is not None]


def distance_to_multiple(rows: int, hash_base: int) -> int:
    """Rows to the nearest positive integer multiple of the hash base."""
    if rows < hash_base:
        return hash_base - rows
    remainder = rows % hash_base
    return min(remainder, hash_base - remainder)


def _near_multiples(spec: NgramSpec) -> str | None:
    """Principle 3 of arXiv:2601.21204 (sec. 3): bigram collisions spike near multiples."""
    V = spec.hash_base
    if V is None:
        return None
    distances = {rows: distance_to_multiple(rows, V) for rows in spec.table_rows}
    near = {rows: away for rows, away in distances.items() if away < NEAR_MULTIPLE_FRAC * V}
    if not near:
        return None
    num_near = sum(rows in near for rows in spec.table_rows)
    multiples = sorted({max(1, round(rows / V)) for rows in near})
    return (
        f"{num_near} of {spec.num_tables} table sizes are within {max(near.values())} rows of "
        f"{', '.join(str(multiple) for multiple in multiples)} times the hash base {V}; "
        "arXiv:2601.21204 (Principle 3) finds that 2-gram collisions spike near integer multiples."
    )


def _large_share(design: Design) -> str | None:
    share = parameter_groups(design)["ngram_tables"] / total_parameters(design)
    if share <= SHARE_CAP:
        return None
    return (
        f"n-gram tables hold {format_share(share)} of all parameters; arXiv:2601.21204 "
        f"(Principle 2) found more than {SHARE_CAP:.0%} a loss, at 280M active parameters."
    )


def _beyond_int32(spec: NgramSpec) -> str | None:
    """SGLang's kernels number the rows of all tables together, in int32."""
    total = sum(spec.table_rows)
    if total <= MAX_TABLE_ROWS:
        return None
    return (
        f"All tables together have {total} rows, more than the {MAX_TABLE_ROWS} that an engine "
        "with one int32 numbering of them (SGLang) can address."
    )
