"""Where tables can live: arithmetic by hand, and the published slow-downs."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale.tiers import (
    TIERS,
    TableReads,
    Tier,
    anchors,
    feed,
    is_validated,
    reads_per_row,
    tier_named,
)

LITE = TableReads(table_bytes=62_813_970_432, rows_per_token=12, bytes_per_row=512)
"""HASHING 9.3: 122,683,536 rows of 256 columns, bf16."""
ENGRAM_27B = TableReads(table_bytes=2 * 5_791_744_000, rows_per_token=32, bytes_per_row=320)
PLAIN = Tier(
    name="plain",
    capacity_bytes=10**12,
    bytes_per_s=1e9,
    latency_s=1e-6,
    read_bytes=1,
    source="this test",
)


@given(st.integers(1, 500), st.integers(1, 200))
def test_reads_of_a_row_are_those_counted_one_by_one(bytes_per_row: int, read_bytes: int) -> None:
    touched = [
        (row + 1) * bytes_per_row // read_bytes
        - row * bytes_per_row // read_bytes
        + ((row + 1) * bytes_per_row % read_bytes > 0)
        for row in range(read_bytes)  # after this many rows it repeats
    ]
    assert reads_per_row(bytes_per_row, read_bytes) == Fraction(sum(touched), read_bytes)


def test_a_page_is_moved_for_a_row_of_lite() -> None:
    """512 bytes divide the page of 4,096: one page a row, eight times what is wanted."""
    nvme = feed(tier_named("nvme-pm9a3"), LITE)
    assert nvme.reads_per_token == 12
    assert nvme.bytes_per_token == 12 * 4096
    assert nvme.bound_by == "reads"
    assert nvme.max_tokens_per_s == pytest.approx(900_000 / 12)


def test_rows_that_cross_pages_take_more_reads() -> None:
    """320 and 4,096 share 64: a row begins at every multiple of 64, and 1/16 cross a page."""
    assert feed(tier_named("nvme-pm9a3"), ENGRAM_27B).reads_per_token == 32 * Fraction(17, 16)


def test_hbm_is_bound_by_bandwidth_alone() -> None:
    hbm = feed(tier_named("hbm-h100"), LITE)
    assert hbm.bytes_per_token == 6144
    assert hbm.bound_by == "bandwidth"
    assert hbm.max_tokens_per_s == pytest.approx(3.35e12 / 6144)


def test_one_thread_waits_for_every_row() -> None:
    thread = feed(tier_named("host-thread"), LITE)
    assert thread.bound_by == "latency"
    assert thread.seconds_per_token == pytest.approx(12 * 100e-9)
    wider = replace(tier_named("host-thread"), reads_in_flight=12)
    assert feed(wider, LITE).seconds_per_token == pytest.approx(100e-9)


def test_a_table_that_is_too_large_does_not_fit() -> None:
    assert feed(tier_named("hbm-h100"), LITE).fits
    larger = replace(LITE, table_bytes=80 * 10**9 + 1)
    assert not feed(tier_named("hbm-h100"), larger).fits


@given(st.integers(1, 10**6), st.sampled_from(TIERS))
def test_the_largest_hidden_batch_is_the_largest(window_ns: int, tier: Tier) -> None:
    window_s = window_ns * 1e-9
    fed = feed(tier, LITE, window_s=window_s)
    batch = fed.max_batch_tokens
    assert batch is not None
    slack = 1e-6 * window_s
    if batch:
        assert tier.latency_s + batch * fed.seconds_per_token <= window_s + slack
    assert tier.latency_s + (batch + 1) * fed.seconds_per_token > window_s - slack


def test_without_a_window_no_batch_is_told() -> None:
    assert feed(PLAIN, LITE).max_batch_tokens is None


def test_a_window_of_56_us_hides_a_small_batch_of_a_thread() -> None:
    """The prefetch window of arXiv:2603.10087 for Qwen3-32B (secondary account)."""
    reads = TableReads(table_bytes=1, rows_per_token=16, bytes_per_row=320)
    assert reads.rows_per_token * reads.bytes_per_row == 5 * 1024
    hidden = feed(tier_named("host-thread"), reads, window_s=56e-6).max_batch_tokens
    assert hidden == 34  # (56,000 ns - 100 ns) / 1,600 ns


def test_published_slow_downs_are_met_within_a_factor_of_three() -> None:
    """arXiv:2601.07372: 9,031.62 to 8,858.28 and 6,315.52 to 6,140.02 tokens/s."""
    four, eight = anchors(tier_named("host-thread"))
    assert four.slow_down == pytest.approx(0.0192, abs=0.0005)
    assert eight.slow_down == pytest.approx(0.0279, abs=0.001)
    assert (round(four.ratio, 2), round(eight.ratio, 2)) == (0.74, 0.35)
    (pool,) = anchors(tier_named("cxl-pool"))
    assert round(pool.ratio, 2) == 0.66


def test_only_what_meets_its_anchors_counts_as_checked() -> None:
    """A host memory bound by PCIe alone would slow the 4B down by 0.07%, not by 1.92%."""
    assert [tier.name for tier in TIERS if is_validated(tier)] == ["host-thread", "cxl-pool"]
    assert anchors(tier_named("nvme-pm9a3")) == ()
    assert max(anchor.ratio for anchor in anchors(tier_named("host-pcie5"))) < 1 / 20


def test_every_tier_names_its_source() -> None:
    assert len({tier.name for tier in TIERS}) == len(TIERS)
    assert all("assumed" in tier.source for tier in TIERS)  # no data sheet gives a latency
