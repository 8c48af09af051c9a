"""Reads of ranks, by hand."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ngscale.cache.sharding import offsets, splits
from ngscale.cache.trace import Rows
from ngscale.policy import mode_policy
from ngscale.spec import longcat_spec

SPEC = longcat_spec(
    vocab_size=50,
    max_order=2,
    num_subtables=3,
    table_rows=(10, 20, 31),
    policy=mode_policy("hf", 2),
)


def source() -> Iterator[Rows]:
    """Four positions in two chunks, which cut the second step of two tokens nowhere."""
    yield np.array([[0, 0, 0], [9, 19, 30], [1, -1, 1]])
    yield np.array([[0, 11, 16]])


def test_reads_are_those_of_the_rows_homes() -> None:
    found = splits(source, [SPEC], num_ranks=2, step_tokens=2, num_positions=4, width=2**27)
    assert [split.name for split in found] == ["head-split", "row-split", "replicated"]
    tables, rows, copies = found
    # Rank 0 has tables 0 and 2: 4 and 4 of the 11 reads; rank 1 the 3 of table 1.
    assert tables.rows_of_busiest == 41
    assert (tables.mean_reads, tables.busiest_reads) == (11 / 4, 4)
    assert tables.skew == 8 / (11 / 2)
    # Ranges of 5, 10 and 16 rows: steps of (3, 3) and then (3, 2).
    assert rows.rows_of_busiest == 31
    assert rows.busiest_reads == 3
    assert rows.skew == 6 / (11 / 2)
    # Every second token: (3, 3), then (2, 3).
    assert copies.rows_of_busiest == 61
    assert copies.busiest_reads == 3
    assert [split.wide_offsets for split in found] == [True, True, True]
    stored = [[rank.rows for rank in split.ranks] for split in found]
    assert stored == [[41, 20], [31, 30], [61, 61]]
    read = [[rank.mean_reads for rank in split.ranks] for split in found]
    assert read == [[4, 1.5], [3, 2.5], [2.5, 3]]


def test_small_shards_keep_32_bit_offsets() -> None:
    found = splits(source, [SPEC], num_ranks=2, step_tokens=2, num_positions=4, width=2**25)
    # 41, 31 and 61 rows of 2**25: a billion elements are fine below 64 rows.
    assert [split.wide_offsets for split in found] == [False, False, False]


def test_offsets_are_wide_from_the_first_element_that_32_bits_do_not_reach() -> None:
    found = {one.stored: one for one in offsets([SPEC], 2**26)}
    assert found["table 2 (2-grams)"].elements == 31 * 2**26
    assert [one.wide for one in found.values()] == [False, False, False, True]
    (exactly, *_) = offsets([replace(SPEC, table_rows=(32, 20, 31))], 2**26)
    assert (exactly.elements, exactly.wide) == (2**31, False)
