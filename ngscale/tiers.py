"""Where tables can live: what a tier of memory feeds, by latency, bandwidth and reads a second.

A token's reads from a tier take the longest of

    bytes moved / bandwidth,   reads / (reads per second),   reads * latency / (reads in flight)

(the last is Little's law). Tokens per second above the inverse of that are bound by the tables,
wherever the reads are hidden. Reads are hidden where those of a batch, and one latency, fit in the
time between knowing the token ids and needing the rows: the prefetch window.
"""

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One kind of memory, as a model's rows would be read from it."""

    name: str
    capacity_bytes: int
    bytes_per_s: float
    latency_s: float
    """Of one read."""
    read_bytes: int
    """The smallest read: a sector, a cache line, a page."""
    reads_per_s: float | None = None
    """None where only bandwidth and latency limit them."""
    reads_in_flight: int | None = None
    """Reads that wait together; None where as many as are needed."""
    source: str


_H100 = "NVIDIA H100 SXM data sheet"
_OURS = "assumed, no data sheet gives it"

TIERS = (
    Tier(
        name="hbm-h100",
        capacity_bytes=80 * 10**9,
        bytes_per_s=3.35e12,
        latency_s=0.6e-6,
        read_bytes=32,
        source=f"{_H100}: 80 GB, 3.35 TB/s; 32 B sectors, CUDA guide; latency {_OURS}",
    ),
    Tier(
        name="nvlink-h100",
        capacity_bytes=80 * 10**9,
        bytes_per_s=450e9,
        latency_s=2e-6,
        read_bytes=32,
        source=f"a second GPU; {_H100}: NVLink 900 GB/s both ways; latency {_OURS}",
    ),
    Tier(
        name="host-pcie5",
        capacity_bytes=2 * 10**12,
        bytes_per_s=63.0e9,
        latency_s=2e-6,
        read_bytes=64,
        source="read by the GPU; PCIe 5.0: 16 lanes of 32 GT/s, 128b/130b; capacity, latency "
        f"and 64 B lines {_OURS}",
    ),
    Tier(
        name="host-thread",
        capacity_bytes=2 * 10**12,
        bytes_per_s=63.0e9,
        latency_s=100e-9,
        read_bytes=64,
        reads_in_flight=1,
        source="gathered by one CPU thread, one row after the other; 100 ns a read and capacity "
        f"{_OURS}",
    ),
    Tier(
        name="cxl-pool",
        capacity_bytes=4 * 10**12,
        bytes_per_s=63.0e9,
        latency_s=190e-9,
        read_bytes=64,
        reads_in_flight=1,
        source="as host-thread, and 90 ns more a read (Pond, ASPLOS 2023: 70 to 90 ns for 8 to 16 "
        f"sockets); capacity {_OURS}",
    ),
    Tier(
        name="nvme-pm9a3",
        capacity_bytes=7_680 * 10**9,
        bytes_per_s=6.5e9,
        latency_s=80e-6,
        read_bytes=4096,
        reads_per_s=900e3,
        source=f"Samsung PM9A3 U.2: 6,500 MB/s, 900,000 random reads/s of 4 KiB; latency {_OURS}",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReads:
    """What the tables hold, and what one token reads from them."""

    table_bytes: int
    rows_per_token: int | Fraction
    bytes_per_row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What a tier can feed of some tables."""

    tier: Tier
    fits: bool
    reads_per_token: Fraction
    """Smallest reads, on average over rows stored without gaps."""
    bytes_per_token: Fraction
    """Moved, the rest of a sector or page included."""
    seconds_per_token: float
    bound_by: str
    """``bandwidth``, ``reads`` (per second) or ``latency``."""
    max_tokens_per_s: float
    """Above it the tables bound the rate, hidden or not."""
    max_batch_tokens: int | None
    """Largest batch whose reads the window hides; None without a window."""


def feed(tier: Tier, reads: TableReads, *, window_s: float | None = None) -> Feed:
    """What ``tier`` can feed of tables with these reads."""
    per_row = reads_per_row(reads.bytes_per_row, tier.read_bytes)
    num_reads = reads.rows_per_token * per_row
    num_bytes = num_reads * tier.read_bytes
    seconds = {"bandwidth": num_bytes / tier.bytes_per_s}
    if tier.reads_per_s is not None:
        seconds["reads"] = num_reads / tier.reads_per_s
    if tier.reads_in_flight is not None:  # a row's own lines follow each other: one latency
        seconds["latency"] = reads.rows_per_token * tier.latency_s / tier.reads_in_flight
    bound_by = max(seconds, key=lambda limit: seconds[limit])
    per_token = float(seconds[bound_by])
    batch = None
    if window_s is not None:
        batch = max(0, math.floor((window_s - tier.latency_s) / per_token))
    return Feed(
        tier=tier,
        fits=reads.table_bytes <= tier.capacity_bytes,
        reads_per_token=num_reads,
        bytes_per_token=num_bytes,
        seconds_per_token=per_token,
        bound_by=bound_by,
        max_tokens_per_s=1 / per_token,
        max_batch_tokens=batch,
    )


def reads_per_row(bytes_per_row: int, read_bytes: int) -> Fraction:
    """Smallest reads that a row touches, on average over rows stored without gaps.

    Rows begin at multiples of g = gcd(row, read), each equally often: 1 + (row - g) / read.
    """
    return 1 + Fraction(bytes_per_row - math.gcd(bytes_per_row, read_bytes), read_bytes)


def tier_named(name: str) -> Tier:
    """The preset of this name."""
    return next(tier for tier in TIERS if tier.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A published slow-down by tables in slower memory, and what the arithmetic above gives."""

    name: str
    source: str
    slow_down: float
    """Share of the time without it, as published."""
    predicted: float
    """The same with nothing hidden."""

    @property
    def ratio(self) -> float:
        """Predicted over published."""
        return self.predicted / self.slow_down


MAX_MISS = 3
"""A tier counts as checked where no anchor is missed by more than this factor."""
_ENGRAM_READS = TableReads(table_bytes=2 * 100 * 10**9, rows_per_token=16, bytes_per_row=320)
"""Orders 2 and 3, 8 heads each, 160 wide in bf16 (arXiv:2601.07372, Table 5): the 5 KB per token
and layer of arXiv:2603.10087. What the measured table of 100B parameters had is not stated."""
_OFFLOADS = (
    ("4B, 100B table in host memory", "arXiv:2601.07372", 9_031.62, 8_858.28),
    ("8B, 100B table in host memory", "arXiv:2601.07372", 6_315.52, 6_140.02),
)
"""Tokens/s on an H800, 512 sequences: without the table, with it."""
_CXL = ("32B, CXL pool for host memory", "arXiv:2603.10087, secondary account", 5_683.7, 5_614.4)
"""Tokens/s of Qwen3-32B with Engram in host memory, and in the pool."""


def anchors(tier: Tier) -> tuple[Anchor, ...]:
    """Published measurements of the kind of memory that ``tier`` is; none of most.

    The predictions hide nothing and count no time but the reads': they are bounds from below of
    the slow-down of an engine that does not prefetch.
    """
    seconds = feed(tier, _ENGRAM_READS).seconds_per_token
    if tier.name.startswith("host-"):
        return tuple(_anchor(*measured, seconds) for measured in _OFFLOADS)
    if tier.name == "cxl-pool":
        host = feed(tier_named("host-thread"), _ENGRAM_READS).seconds_per_token
        return (_anchor(*_CXL, seconds - host),)
    return ()


def _anchor(name: str, source: str, fast: float, slow: float, seconds: float) -> Anchor:
    """Tokens/s without and with the slower memory, against ``seconds`` more per token."""
    return Anchor(name=name, source=source, slow_down=fast / slow - 1, predicted=seconds * fast)


def is_validated(tier: Tier) -> bool:
    """Whether there are anchors and all are met within a factor of ``MAX_MISS``."""
    ratios = [anchor.ratio for anchor in anchors(tier)]
    return bool(ratios) and all(1 / MAX_MISS <= ratio <= MAX_MISS for ratio in ratios)
