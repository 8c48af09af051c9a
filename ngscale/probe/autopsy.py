"""What the rows of a trained table look like: norms, dead rows, duplicates, rank, quantisation.

One pass over the rows of a table, some at a time; kept are a norm, a fingerprint and a traffic
count per row (16 bytes) and one d x d matrix. NumPy only.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt64

from ngscale.probe.numbers import quantiles
from ngscale.probe.table_files import Rows, StoredTable, read_rows

BITS = (8, 6, 5, 4, 3)
BLOCK = 32
"""Columns that share a scale where scales are per block."""
ERROR_LINE = 0.05
"""Relative error under which a bit width counts as harmless. Ours; no study of tables is known."""
_QUANTILES = ("min", "p5", "median", "p95", "p99", "max")
_INIT_TAIL = 1e-4
"""Share of rows at initialisation that may be taken for trained ones, on each side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableAutopsy:
    """One table; rates are of its rows."""

    num_rows: int
    norm: Mapping[str, float]
    """Quantiles of the rows' L2 norms."""
    num_zero: int
    num_at_init: int | None
    """Rows whose norm is within that of new weights (``initializer_range``): an upper bound for
    those never trained. None where config.json names no such range."""
    num_duplicates: int
    """Rows equal, bit for bit, to an earlier one; zero rows not counted."""
    largest_group: int
    """Rows that are all equal."""
    effective_rank: float
    """exp of the entropy of the singular values (Roy and Vetterli 2007), at most d."""
    projected_norm: Mapping[str, float] | None
    """Quantiles of ``|P_i r|`` over the rows."""
    num_read: int | None
    """Rows that the corpus reads; None without one."""
    num_read_dead: int | None
    """Of these, rows that are zero."""
    spearman: float | None
    """Rank correlation of traffic and norm over the rows that are read."""
    norm_by_traffic: Sequence[Mapping[str, float]]
    """Median norm of the rows read 0, 1, 2-3, 4-15, .. times."""
    errors: Mapping[str, Mapping[int, float]]
    """``row`` and ``block`` -> bits -> relative error sqrt(sum c |r - q(r)|^2 / sum c |r|^2), c the
    traffic, or 1 without a corpus."""


def autopsy(
    directory: Path,
    table: StoredTable,
    *,
    traffic: Int64[np.ndarray, " M"] | None,
    initializer_range: float | None,
) -> TableAutopsy:
    """Read ``table`` once.

    Raises:
        InputError: the file is truncated, or a weight is not finite.
    """
    rows, width = table.num_rows, table.width
    norms = np.empty(rows, dtype=np.float32)
    projected = None if table.projection is None else np.empty(rows, dtype=np.float32)
    prints = np.empty(rows, dtype=np.uint64)
    gram = np.zeros((width, width))
    errors = {(scale, bits): 0.0 for scale in ("row", "block") for bits in BITS}
    factor = None if table.projection is None else gram_factor(table.projection)
    power, done = 0.0, 0
    for chunk, stored in read_rows(directory, table.parts):
        part = slice(done, done + len(chunk))
        done += len(chunk)
        squares = np.einsum("rd,rd->r", chunk, chunk, dtype=np.float64)
        norms[part] = np.sqrt(squares)
        prints[part] = fingerprints(stored)
        gram += (chunk.T @ chunk).astype(np.float64)
        if projected is not None:
            projected[part] = np.linalg.norm(chunk @ factor, axis=1)
        weights = np.ones(len(chunk)) if traffic is None else traffic[part].astype(np.float64)
        power += float(weights @ squares)
        read = weights > 0
        for scale, block in (("row", width), ("block", BLOCK)):
            for bits, missed in quantisation_errors(chunk[read], BITS, block).items():
                errors[scale, bits] += float(weights[read] @ missed)
    distinct = np.unique(prints[norms > 0], return_counts=True)[1]
    num_zero = int((norms == 0).sum())
    read_rows_mask = None if traffic is None else traffic > 0
    return TableAutopsy(
        num_rows=rows,
        norm=quantiles(norms, _QUANTILES),
        num_zero=num_zero,
        num_at_init=None
        if initializer_range is None
        else _at_init(norms, width, initializer_range),
        num_duplicates=int(rows - num_zero - len(distinct)),
        largest_group=int(distinct.max(initial=0)),
        effective_rank=effective_rank(gram),
        projected_norm=None if projected is None else quantiles(projected, _QUANTILES),
        num_read=None if read_rows_mask is None else int(read_rows_mask.sum()),
        num_read_dead=None
        if read_rows_mask is None
        else int((read_rows_mask & (norms == 0)).sum()),
        spearman=None if traffic is None else _spearman(traffic, norms),
        norm_by_traffic=() if traffic is None else _by_traffic(traffic, norms),
        errors={
            scale: {bits: (errors[scale, bits] / power) ** 0.5 if power else 0.0 for bits in BITS}
            for scale in ("row", "block")
        },
    )


def norms_of(directory: Path, parts: Rows) -> Float64[np.ndarray, " R"]:
    """L2 norm of every row."""
    chunks = [np.linalg.norm(chunk, axis=1) for chunk, _ in read_rows(directory, (parts,))]
    return np.concatenate(chunks).astype(np.float64)


def quantisation_errors(
    rows: Float32[np.ndarray, "R d"], bits: Sequence[int], block: int
) -> dict[int, Float64[np.ndarray, " R"]]:
    """``|r - q(r)|^2`` of every row: symmetric integers, their scale max|x| / (2^(bits-1) - 1) of
    every ``block`` columns; the last block may be shorter.
    """
    totals = {b: np.zeros(len(rows)) for b in bits}
    for start in range(0, rows.shape[1], block):
        part = rows[:, start : start + block]
        most = np.abs(part).max(axis=1, keepdims=True)
        for b, total in totals.items():
            scale = most / np.float32(2 ** (b - 1) - 1)
            scale[scale == 0] = 1
            missed = part - np.round(part / scale) * scale
            total += np.einsum("rd,rd->r", missed, missed, dtype=np.float64)
    return totals


def gram_factor(projection: Float32[np.ndarray, "D d"]) -> Float32[np.ndarray, "d d"]:
    """L with |r L| = |P r|: D/d times less work than the projection itself."""
    values, vectors = np.linalg.eigh(projection.T.astype(np.float64) @ projection)
    factor: np.ndarray = (vectors * np.sqrt(np.clip(values, 0, None))).astype(np.float32)
    return factor


def effective_rank(gram: Float64[np.ndarray, "d d"]) -> float:
    """exp(-sum p log p), p the singular values over their sum, from R^T R; 0 of a zero matrix."""
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    # A float32 product leaves a null direction at some 1e-4 of the largest singular value.
    values = values[values > 1e-3 * values.max(initial=0)]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def fingerprints(stored: np.ndarray) -> UInt64[np.ndarray, " R"]:
    """64 bits of every row as stored, after SplitMix64; two of 10^7 different rows agree with a
    probability of 3e-6.
    """
    raw = np.ascontiguousarray(stored).view(np.uint8)
    if spare := -raw.shape[1] % 8:
        raw = np.pad(raw, ((0, 0), (0, spare)))
    words = np.ascontiguousarray(raw).view("<u8")
    state = np.zeros(len(words), dtype=np.uint64)
    for column in range(words.shape[1]):
        state = _mix(state + np.uint64(0x9E3779B97F4A7C15) ^ words[:, column])
    return state


def _mix(x: UInt64[np.ndarray, " R"]) -> UInt64[np.ndarray, " R"]:
    """The finaliser of SplitMix64, a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, " R"] = x ^ (x >> np.uint64(31))
    return mixed


def _at_init(norms: Float32[np.ndarray, " M"], width: int, std: float) -> int:
    """Rows whose norm a row of N(0, std^2) would have: |r|^2 / std^2 is chi-squared, d degrees."""
    from scipy import stats

    low, high = (float(stats.chi2.ppf(tail, width)) for tail in (_INIT_TAIL, 1 - _INIT_TAIL))
    squares = (norms.astype(np.float64) / std) ** 2
    return int(((squares >= low) & (squares <= high)).sum())


def _spearman(traffic: Int64[np.ndarray, " M"], norms: Float32[np.ndarray, " M"]) -> float | None:
    """None where either is constant."""
    from scipy import stats

    read = traffic > 0
    if len(np.unique(traffic[read])) < 2 or len(np.unique(norms[read])) < 2:
        return None
    return float(stats.spearmanr(traffic[read], norms[read]).statistic)


def _by_traffic(
    traffic: Int64[np.ndarray, " M"], norms: Float32[np.ndarray, " M"]
) -> list[dict[str, float]]:
    edges = [0, 1, 2, 4, 16, 256, int(traffic.max()) + 257]
    found = []
    for low, high in itertools.pairwise(edges):
        inside = norms[(traffic >= low) & (traffic < high)]
        if len(inside):
            found.append(
                {"reads_from": low, "rows": len(inside), "norm_median": float(np.median(inside))}
            )
    return found


def lowest_bits(errors: Mapping[int, float]) -> int | None:
    """The fewest bits whose error is at most ``ERROR_LINE``; None where none is."""
    return min((bits for bits, error in errors.items() if error <= ERROR_LINE), default=None)
