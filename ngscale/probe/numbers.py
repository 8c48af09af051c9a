"""Numbers as the records of probe keep them: quantiles, intervals, six digits, rows of files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ngscale.records import Column, Table

_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def rounded(value: Any) -> Any:
    """Every float in nested mappings and sequences with six significant digits, which is what a
    float32 forward pass is good for.
    """
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return float(f"{float(value):.6g}") if isinstance(value, float | np.floating) else value


def quantiles(values: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Those of ``min``, ``p5``, ``median``, ``p95``, ``p99`` and ``max`` that are named."""
    found = np.quantile(values, [_QUANTILES[name] for name in names])
    return {name: rounded(value) for name, value in zip(names, found, strict=True)}


def window_interval(values: Sequence[float]) -> list[float] | None:
    """95% t-interval of the mean of one number per window; None of one window.

    Windows of one text are not independent, so it is the spread of this text, not of all text.
    """
    if len(values) < 2:
        return None
    from scipy import stats

    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    interval: list[float] = rounded([mean - half, mean + half])
    return interval


def flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """One CSV row: nested keys joined by an underscore; lists stay in the record."""
    row: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            row |= {f"{key}_{inner}": number for inner, number in flat(value).items()}
        elif not isinstance(value, list):
            row[key] = value
    return row


def data_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows for a file, which no page shows."""
    columns = tuple(Column(key=key, title=key) for key in rows[0])
    return Table(name=name, title=name, columns=columns, rows=rows, terminal=False)
