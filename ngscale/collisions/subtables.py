"""The K sub-tables of an order together: measured, and expected of K independent ideal hashes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ngscale.collisions.expected import company
from ngscale.collisions.joint import JointSharing, joint_sharing, repeated
from ngscale.hashing.longcat import Polynomial
from ngscale.hashing.scheme import Scheme
from ngscale.ngrams import NgramTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtables:
    """All-K sharing and identity loss of one order."""

    order: int
    table_rows: tuple[int, ...]
    distinct: int
    occurrences: int
    measured: JointSharing
    expected_colliding: float
    """``n prod_k (1 - (1 - 1/M_k)**(n-1))``: the K ideal hashes are independent."""
    expected_merged: float
    """``n (1 - (1 - prod_k 1/M_k)**(n-1))``."""


def measure_subtables(table: NgramTable, scheme: Scheme, table_rows: Sequence[int]) -> Subtables:
    """Hash every n-gram into every sub-table, exactly."""
    if isinstance(scheme, Polynomial):
        measured = joint_sharing(table, scheme.base, table_rows)
    else:
        measured = _any_scheme(table, scheme, table_rows)
    n = table.distinct
    same_everywhere = math.prod(1.0 / rows for rows in table_rows)
    return Subtables(
        order=table.order,
        table_rows=tuple(table_rows),
        distinct=n,
        occurrences=table.occurrences,
        measured=measured,
        expected_colliding=n * math.prod(float(company(n, rows)) for rows in table_rows),
        expected_merged=-n * math.expm1((n - 1) * math.log1p(-same_everywhere))
        if same_everywhere < 1.0
        else float(n if n > 1 else 0),
    )


def _any_scheme(table: NgramTable, scheme: Scheme, table_rows: Sequence[int]) -> JointSharing:
    """The same counts without the polynomial's fast kernels and without its proof."""
    everywhere = np.ones(table.distinct, dtype=np.bool_)
    classes = np.zeros(table.distinct, dtype=np.int64)
    for rows in table_rows:
        row_ids = scheme.rows(table.tokens, rows)
        everywhere &= repeated(row_ids)
        classes = np.unique(classes * rows + row_ids, return_inverse=True)[1]
    merged = repeated(classes)
    return JointSharing(
        colliding=int(everywhere.sum()),
        colliding_tokens=int(table.counts[everywhere].sum()),
        merged=int(merged.sum()),
        merged_tokens=int(table.counts[merged].sum()),
        merged_proven_zero=False,
    )
