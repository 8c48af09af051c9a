"""How often a corpus reads every row of a table."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, UInt32

from ngscale.errors import InputError, UsageError
from ngscale.hashing.stream import row_ids
from ngscale.spec import NgramSpec, PolynomialHash
from ngscale.tokens import TokenStream

_CHUNK_TOKENS = 2**20


def check_traffic(spec: NgramSpec, stream: TokenStream) -> None:
    """Refuse a text that the tables cannot be read with.

    Raises:
        UsageError: the hash takes compressed ids.
        InputError: a token is beyond the vocabulary.
    """
    if spec.compressed_vocab is not None:
        raise UsageError(
            "--corpus: these tables hash compressed ids, which probe does not compute; leave "
            "--corpus out"
        )
    largest = int(stream.tokens.max())
    if largest >= spec.vocab_size:
        raise InputError(
            f"the corpus has token id {largest}, the hash's vocabulary ends at "
            f"{spec.vocab_size - 1}; --tokenizer takes the model's own"
        )


def row_traffic(spec: NgramSpec, table: int, stream: TokenStream) -> Int64[np.ndarray, " M"]:
    """Reads of every row of ``table``; no look-back crosses a document."""
    counts = np.zeros(spec.readable_rows(table), dtype=np.int64)
    for rows in table_row_ids(spec, table, stream):
        counts += np.bincount(rows[rows >= 0], minlength=len(counts))
    return counts


def table_row_ids(
    spec: NgramSpec, table: int, stream: TokenStream, *, num_tokens: int | None = None
) -> Iterator[Int64[np.ndarray, " T"]]:
    """Row of every position, -1 where none is read; of the first ``num_tokens`` or all."""
    alone = single_table(spec, table)
    total = stream.num_tokens if num_tokens is None else min(num_tokens, stream.num_tokens)
    for start in range(0, total, _CHUNK_TOKENS):
        end = min(start + _CHUNK_TOKENS, total)
        before = max(0, start - spec.max_order)  # what the first positions look back to
        tokens: UInt32[np.ndarray, " T"] = np.ascontiguousarray(stream.tokens[before:end])
        documents = np.searchsorted(stream.doc_starts, np.arange(before, end), side="right")
        rows = row_ids(tokens, alone, segments=documents.astype(np.int64))
        yield rows[start - before :, 0]


def single_table(spec: NgramSpec, table: int) -> NgramSpec:
    """``spec`` with this table alone, whose rows it reads as before."""
    ngram_hash = spec.hash
    if isinstance(ngram_hash, PolynomialHash) and ngram_hash.table_bases:
        bases = (ngram_hash.table_bases[table],)
        ngram_hash = dataclasses.replace(ngram_hash, table_bases=bases)
    return dataclasses.replace(
        spec,
        hash=ngram_hash,
        table_orders=(spec.table_orders[table],),
        table_rows=(spec.table_rows[table],),
    )
