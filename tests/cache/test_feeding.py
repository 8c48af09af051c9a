"""What tiers serve, by hand; and tiers that are none."""

import numpy as np
import pytest

from ngscale.cache.feeding import Level, parse_levels, serve
from ngscale.cache.reuse import Curve
from ngscale.errors import UsageError
from ngscale.tiers import tier_named

CURVE = Curve(hits=np.array([0, 40, 60, 70]), num_accesses=100, distinct=30)
"""100 accesses; caches of 1, 2, 3 pages hit 40, 60, 70."""


def test_each_tier_serves_what_the_ones_before_it_miss() -> None:
    levels = parse_levels(["hbm-h100=512", "host-thread=1K", "nvme-pm9a3"])
    found = serve(levels, CURVE, num_tokens=10, bytes_per_page=512, table_bytes=10**9)
    assert [one.rows_asked for one in found] == [10, 6, 3]
    assert [one.rows_served for one in found] == [4, 3, 3]
    assert found[2].bytes_moved == 3 * 4096
    assert found[2].max_tokens_per_s == pytest.approx(900_000 / 3)
    assert found[1].max_tokens_per_s == pytest.approx(1 / (3 * 100e-9))
    assert [one.validated for one in found] == [False, True, False]


def test_a_tier_that_serves_nothing_never_saturates() -> None:
    levels = [Level(tier=tier_named("hbm-h100"), bytes_held=None), *parse_levels(["nvme-pm9a3"])]
    first, second = serve(levels, CURVE, num_tokens=10, bytes_per_page=512, table_bytes=10**9)
    assert (first.rows_served, second.rows_served) == (10, 0)
    assert second.max_tokens_per_s is None


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
        (["nvme-pm9a3:iops=many"], "'many' is not what"),
        (["nvme-pm9a3:read=0.5"], "is not what a device can have"),
        (["nvme-pm9a3:colour=red"], "colour is none of bandwidth"),
    ],
)
def test_tiers_that_are_none_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_levels(texts)
