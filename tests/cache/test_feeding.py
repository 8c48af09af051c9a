"""What tiers serve, by hand; and tiers that are none."""

import numpy as np
import pytest

from ngscale.cache.feeding import alone, asked_of, parse_levels, serve
from ngscale.cache.reuse import Curve
from ngscale.errors import UsageError
from ngscale.tiers import TIERS

CURVE = Curve(hits=np.array([0, 40, 60, 70]), num_accesses=100, distinct=30)
"""100 accesses; caches of 1, 2, 3 pages hit 40, 60, 70."""


SHAPE = {"num_tokens": 10, "bytes_per_page": 512, "table_bytes": 10**9}


def test_each_tier_serves_what_the_ones_before_it_miss() -> None:
    levels = parse_levels(["hbm-h100=512", "host-thread=1K", "nvme-pm9a3"])
    asked = asked_of(levels, CURVE, 512)
    assert asked == [100, 60, 30]
    found = serve(levels, asked, step_tokens=4, **SHAPE)
    assert [one.rows_asked for one in found] == [10, 6, 3]
    assert [one.bytes_asked for one in found] == [5120, 3072, 1536]
    assert [one.rows_served for one in found] == [4, 3, 3]
    assert found[2].bytes_moved == 3 * 4096
    assert found[2].max_tokens_per_s == pytest.approx(900_000 / 3)
    assert found[2].step_s == pytest.approx(80e-6 + 4 * 3 / 900_000)
    assert found[1].max_tokens_per_s == pytest.approx(1 / (3 * 100e-9))
    assert [one.validated for one in found] == [False, True, False]


def test_a_tier_that_serves_nothing_never_saturates() -> None:
    levels = parse_levels(["hbm-h100=4K", "host-thread=4K", "nvme-pm9a3"])
    curve = Curve(hits=np.array([0, 100]), num_accesses=100, distinct=1)
    found = serve(levels, asked_of(levels, curve, 512), step_tokens=1, **SHAPE)
    assert [one.rows_served for one in found] == [10, 0, 0]
    assert [one.max_tokens_per_s for one in found[1:]] == [None, None]
    assert [one.step_s for one in found[1:]] == [0, 0]


def test_every_kind_of_memory_is_fed_alone_and_behind_the_first_tier() -> None:
    levels = parse_levels(["hbm-h100=512", "nvme-pm9a3:iops=1e5"])
    found = {one.tier.name: one for one in alone(levels, [100, 60], **SHAPE)}
    assert list(found) == [tier.name for tier in TIERS]
    assert found["nvme-pm9a3"].alone_tokens_per_s == pytest.approx(1e5 / 10)
    assert found["nvme-pm9a3"].behind_tokens_per_s == pytest.approx(1e5 / 6)
    assert found["host-thread"].behind_tokens_per_s == pytest.approx(1e7 / 6)
    assert found["hbm-h100"].alone_bytes == 5120
    (only,) = {one.behind_tokens_per_s for one in alone(levels, [100, 0], **SHAPE)}
    assert only is None


def test_given_numbers_replace_those_of_the_device() -> None:
    (level,) = parse_levels(["nvme-pm9a3:iops=1e6:latency=60e-6:bandwidth=7e9:read=512"])
    tier = level.tier
    assert (tier.reads_per_s, tier.latency_s, tier.bytes_per_s, tier.read_bytes) == (
        1e6,
        60e-6,
        7e9,
        512,
    )
    assert "as given" in tier.source


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["floppy"], "floppy is none of hbm-h100"),
        (["hbm-h100=0", "nvme-pm9a3"], "not an amount of memory"),
        (["hbm-h100", "nvme-pm9a3"], "every tier but the last"),
        (["hbm-h100=4G"], "every tier but the last"),
        (["hbm-h100=4T", "nvme-pm9a3"], "has 80,000,000,000 bytes"),
        (["nvme-pm9a3:bandwidth=0"], "is not what a device can have"),
        (["nvme-pm9a3:bandwidth=-1e9"], "is not what a device can have"),
        (["nvme-pm9a3:bandwidth=inf"], "is not what a device can have"),
        (["nvme-pm9a3:bandwidth=1e17"], r"is not what a device can have \(1000 to 1e\+15\)"),
        (["nvme-pm9a3:latency=nan"], "is not what a device can have"),
        (["nvme-pm9a3:in-flight=2.5"], "whole"),
        (["nvme-pm9a3:iops=many"], "'many' is not what"),
        (["nvme-pm9a3:read=0.5"], "is not what a device can have"),
        (["nvme-pm9a3:colour=red"], "colour is none of bandwidth"),
    ],
)
def test_tiers_that_are_none_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_levels(texts)
