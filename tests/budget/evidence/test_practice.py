"""EVIDENCE section 5: what was shipped, placement, optimiser."""

from dataclasses import replace

import pytest

from ngscale.budget.evidence import practice
from ngscale.budget.evidence.rule import judge
from tests.budget.evidence.designs import LITE

PLACEMENT, OPTIMISER = practice.RULES


def test_shipped_shares_of_total() -> None:
    """EVIDENCE 5: Lite 45.8%, LongCat-2.0 8.4%, V4.1 26%, Qwen3.8 29%."""
    shares = list(practice.shipped_shares().values())
    assert shares == pytest.approx([0.458, 0.084, 0.26, 0.29], abs=0.0025)


@pytest.mark.parametrize(
    ("layers", "verdict"),
    [((1,), "holds"), ((14,), "broken"), ((1, 14), "broken"), ((), "outside evidence")],
)
def test_one_early_layer_suffices(layers: tuple[int, ...], verdict: str) -> None:
    assert judge(PLACEMENT, replace(LITE, injection_layers=layers)).verdict == verdict


def test_the_optimiser_is_five_times_the_rate_without_decay() -> None:
    as_published = replace(LITE, table_lr_factor=5, table_weight_decay=0)
    assert judge(OPTIMISER, as_published).verdict == "holds"
    assert judge(OPTIMISER, replace(as_published, table_weight_decay=0.1)).verdict == "broken"
    assert judge(OPTIMISER, LITE).verdict == "outside evidence"
