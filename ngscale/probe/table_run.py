"""``probe --tables``: the tables that were found and a text -> read them once -> record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ngscale.probe.autopsy import (
    BLOCK,
    ERROR_LINE,
    TableAutopsy,
    autopsy,
    lowest_bits,
    norms_of,
)
from ngscale.probe.numbers import quantiles, rounded
from ngscale.probe.table_files import StoredTable, StoredTables, gather_rows, read_rows
from ngscale.probe.traffic import check_traffic, row_traffic, table_row_ids
from ngscale.records import RunRecord
from ngscale.tokens import TokenStream

SAMPLE_TOKENS = 4096
"""The first tokens of the corpus, for which word and n-gram part are compared as vectors."""


def probe_tables(
    found: StoredTables, stream: TokenStream | None, *, done: Callable[[], object]
) -> RunRecord:
    """Read each table once, compare them with the word embedding.

    Raises:
        NgscaleError: something is malformed or not finite.
    """
    directory = found.directory
    if stream is not None:
        for spec in found.specs:
            check_traffic(spec, stream)
    results = []
    for table in found.tables:
        traffic = None if stream is None else row_traffic(table.spec, table.number, stream)
        read = autopsy(directory, table, traffic=traffic, initializer_range=found.initializer_range)
        results.append(_table_result(table, read))
        done()
    words = norms_of(directory, found.words)
    orders = _order_results(results)
    return RunRecord(
        verb="probe",
        answer=_answer(directory, results),
        inputs={
            "model": {"name": directory.resolve().name},
            "initializer_range": found.initializer_range,
            "corpus": None
            if stream is None
            else {
                "sha256_of_tokens": stream.sha256(),
                "num_tokens": stream.num_tokens,
                "num_docs": stream.num_docs,
            },
        },
        results={
            "tables": results,
            "orders": orders,
            "words": {"num_rows": len(words), "norm": _norms(words)},
            "word_and_ngram": None if stream is None else _compare(found, stream),
            "quantisation": {"block": BLOCK, "error_line": ERROR_LINE},
        },
    )


def _table_result(table: StoredTable, read: TableAutopsy) -> dict[str, Any]:
    result: dict[str, Any] = rounded(asdict(read))
    result["errors"] = {
        scale: {str(bits): error for bits, error in errors.items()}
        for scale, errors in result["errors"].items()
    }
    lowest = {scale: lowest_bits(errors) for scale, errors in read.errors.items()}
    return {
        "name": table.name,
        "order": table.order,
        "width": table.width,
        "dtype": table.dtype,
        "lowest_bits": lowest,
        **result,
    }


def _order_results(tables: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sums and means over the tables of an order."""
    found = []
    for order in sorted({table["order"] for table in tables}):
        of = [table for table in tables if table["order"] == order]
        rows = sum(table["num_rows"] for table in of)
        read = [table["num_read"] for table in of]
        found.append(
            {
                "order": order,
                "tables": len(of),
                "num_rows": rows,
                "norm_median": rounded(float(np.mean([t["norm"]["median"] for t in of]))),
                "zero_frac": rounded(sum(t["num_zero"] for t in of) / rows),
                "duplicate_frac": rounded(sum(t["num_duplicates"] for t in of) / rows),
                "read_frac": None if None in read else rounded(sum(read) / rows),
                "effective_rank_frac": rounded(
                    float(np.mean([t["effective_rank"] / t["width"] for t in of]))
                ),
            }
        )
    return found


def _compare(found: StoredTables, stream: TokenStream) -> dict[str, Any] | None:
    """W[t] against sum_i P_i r_i, as vectors, at the first tokens of the corpus.

    Only of tables at the input: those of a layer are gated by the stream.
    """
    tables = found.tables
    (spec, *others) = found.specs
    if others or spec.layers or any(table.projection is None for table in tables):
        return None
    tokens = np.asarray(stream.tokens[:SAMPLE_TOKENS]).astype(np.int64)
    wanted = np.unique(tokens)
    words = np.empty((len(wanted), found.words.tensor.shape[1]), dtype=np.float32)
    first = 0
    for chunk, _ in read_rows(found.directory, (found.words,)):
        inside = (wanted >= first) & (wanted < first + len(chunk))
        words[inside] = chunk[wanted[inside] - first]
        first += len(chunk)
    word = words[np.searchsorted(wanted, tokens)]
    ngram = np.zeros_like(word)
    each = []
    for table in tables:
        (ids,) = table_row_ids(spec, table.number, stream, num_tokens=SAMPLE_TOKENS)
        rows = gather_rows(found.directory, table.parts, np.maximum(ids, 0))
        rows[ids < 0] = 0
        assert table.projection is not None
        projected = rows @ table.projection.T
        each.append(float(np.median(np.linalg.norm(projected, axis=1))))
        ngram += projected
    word_norm, ngram_norm = (np.linalg.norm(part, axis=1) for part in (word, ngram))
    ratio = float(np.median(ngram_norm / np.maximum(word_norm, np.finfo(np.float32).tiny)))
    return {
        "num_tokens": len(tokens),
        "word_norm": _norms(word_norm),
        "ngram_norm": _norms(ngram_norm),
        "table_norm_medians": [rounded(value) for value in each],
        "ngram_over_word": {
            "mean": rounded(ratio),
            "sum_only": rounded(ratio / (1 + spec.num_tables)),
        },
        "word_scale_of_config": spec.word_scale,
    }


def _answer(directory: Path, tables: Sequence[Mapping[str, Any]]) -> str:
    rows = sum(table["num_rows"] for table in tables)
    zero = sum(table["num_zero"] for table in tables)
    same = sum(table["num_duplicates"] for table in tables)
    answer = (
        f"{directory.resolve().name}: {rows:,} rows in {len(tables)} tables; "
        f"{100 * zero / rows:.3g}% are zero, {100 * same / rows:.3g}% repeat another"
    )
    if (read := [table["num_read"] for table in tables]) and None not in read:
        answer += f"; the corpus reads {100 * sum(read) / rows:.3g}%"
    lows = [table["lowest_bits"]["block"] for table in tables]
    if None in lows:
        return f"{answer}. Some tables err by more than {100 * ERROR_LINE:.0f}% even with 8 bits."
    least, most = min(lows), max(lows)
    bits = f"{most} bits" if least == most else f"{least} to {most} bits, by table,"
    return (
        f"{answer}. {bits} in blocks of {BLOCK} keep the error of what is read under "
        f"{100 * ERROR_LINE:.0f}%."
    )


def _norms(values: np.ndarray) -> dict[str, float]:
    return quantiles(values, ("p5", "median", "p95"))
