"""Designs of one total: exact counts, no dominated ones, sound sizes; what cannot be is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngscale import presets
from ngscale.budget.candidates import choose, document
from ngscale.budget.frontier import SHAPES, Frontier, frontier, undominated
from ngscale.budget.limits import Limits
from ngscale.budget.trade import config_of, mixtures, trades
from ngscale.design import Design, design_of, read_design
from ngscale.errors import NoResultError, SpecError
from ngscale.params import (
    bytes_per_parameter,
    most_active,
    parameter_equivalent_moe,
    parameter_groups,
    total_parameters,
)
from ngscale.row_counts import longcat_rows
from ngscale.spec import order_major
from ngscale.table_sizes import is_sound, sound_ratio, sound_ratios

LITE = read_design(presets.resolve("longcat-flash-lite"))
TOTAL = 68_562_465_024
"""EVIDENCE 1.5."""
MOES = ("longcat-flash-lite", "mixtral-8x7b", "qwen3-30b-a3b", "olmoe-1b-7b", "gpt-oss-20b")


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=60))
@settings(max_examples=1000)
def test_what_is_kept_is_what_no_other_dominates(rows: list[tuple[int, int, int]]) -> None:
    kept = undominated(np.array(rows, dtype=float))
    for i, row in enumerate(rows):
        dominated = any(
            all(a <= b for a, b in zip(other, row, strict=True)) and other != row for other in rows
        )
        assert kept[i] == (not dominated)


@pytest.mark.parametrize("name", MOES)
def test_affine_counts_are_the_designs_own(name: str) -> None:
    """Every trade, made a config.json and read back, has the parameters its arithmetic says."""
    design = read_design(presets.resolve(name))
    total = total_parameters(design) * 3 // 2
    widths = bytes_per_parameter("bf16")
    for mixture in mixtures(design.model, None, "bf16"):
        some = list(trades(mixture, total, SHAPES, max_share=0.6, max_counts=3))
        for trade in (some[0], some[len(some) // 2], some[-1]):
            base = mixture.model.vocab_size
            ratio = round(trade.table_rows / base, 3) if trade.num_tables else None
            made = design_of(config_of(trade, ratio))
            spec = made.ngram
            off = 0
            if spec is not None:
                off = sum(spec.table_rows) - trade.table_rows * trade.num_tables
                off *= trade.table_width
                assert (spec.max_order, spec.num_subtables) == (
                    trade.max_order,
                    trade.num_subtables,
                )
            assert total_parameters(made) == trade.total_parameters + off
            assert most_active(made) == trade.active_parameters
            groups = parameter_groups(made)
            held = sum(
                count * widths[group]
                for group, count in groups.items()
                if group not in ("mtp", "ngram_tables", "ngram_projections")
            )
            assert mixture.at(mixture.weight_bytes, trade.num_experts) == held
            expert_bytes = trade.num_experts * mixture.expert_bytes
            assert expert_bytes == groups["experts"] * widths["experts"]


def test_of_the_model_itself_nothing_changes() -> None:
    """Lite's own experts and ratio are one of the trades at Lite's own total."""
    own = next(one for one in mixtures(LITE.model, None, "bf16") if one.intermediate_size == 1024)
    (trade,) = [
        one
        for one in trades(own, TOTAL, ((4, 4),), max_share=0.7, max_counts=10_000)
        if one.num_experts == 256 and one.num_tables
    ]
    assert trade.num_tables == 12
    # int(78 V + 2i + 1) is 12 on average.
    assert trade.table_rows == 78 * 131_072 + 12
    assert trade.total_parameters == TOTAL
    assert trade.active_parameters == 4_515_400_704  # HASHING 9.3


@pytest.fixture(scope="module")
def found() -> Frontier:
    return frontier(LITE, Limits(total_parameters=TOTAL, host_bytes=2**40, num_sequences=64))


def test_the_frontier_has_sound_sizes_and_the_total(found: Frontier) -> None:
    assert found.num_designs > 5_000
    assert found.has_loss
    for one in found.designs:
        trade = one.trade
        assert abs(trade.active_parameters / 4_515_400_704 - 1) < 0.03
        if one.ratio is None:
            assert not trade.num_tables
            continue
        assert abs(trade.total_parameters / TOTAL - 1) < 1e-4
        rows = longcat_rows(one.ratio, 131_072, trade.num_tables)
        assert is_sound(rows, 131_072, order_major(trade.max_order, trade.num_subtables))


def test_the_baseline_is_the_parameter_equivalent_moe(found: Frontier) -> None:
    equivalent = parameter_equivalent_moe(LITE)
    assert found.baseline.trade.num_experts == 494
    assert found.baseline.trade.total_parameters == total_parameters(equivalent)


def test_candidates_are_whole_designs(found: Frontier) -> None:
    limits = Limits(total_parameters=TOTAL, host_bytes=2**40, num_sequences=64)
    chosen, missing = choose(found, limits)
    assert not missing
    by_name = {one.name: document(one, limits) for one in chosen}
    moe, best = by_name["parameter-equivalent-moe"], by_name["evidence-best"]
    # Qwen3.8 Table 8: 25% of the total budget is best, 1.197 against 1.202.
    assert best["ngram_share"] == pytest.approx(0.25, abs=0.005)
    assert best["loss_difference"] == pytest.approx(-0.005, abs=2e-4)
    assert by_name["conservative"]["ngram_share"] == pytest.approx(0.1, abs=0.005)
    assert by_name["conservative"]["loss_difference"] == pytest.approx(-0.002, abs=2e-4)
    assert by_name["memory-bound"]["ngram_share"] <= 0.5
    assert by_name["memory-bound"]["hbm_bytes"] == min(one["hbm_bytes"] for one in by_name.values())
    for one in by_name.values():
        design = design_of(one["config"])
        assert total_parameters(design) == one["total_parameters"]
        assert (
            sum(count for group, count in one["groups"].items() if group != "mtp")
            == (one["total_parameters"])
        )
        if one is not moe:
            assert design.ngram is not None
            assert abs(one["difference_to_total"]) < 1e-4 * TOTAL
            assert is_sound(design.ngram.table_rows, 131_072, design.ngram.table_orders)
            assert one["rules"]["longcat.table-size"] == "holds"


def test_memory_limits_bound_every_design() -> None:
    limits = Limits(total_parameters=TOTAL, hbm_bytes=100 * 2**30, host_bytes=40 * 2**30)
    found = frontier(LITE, limits)
    for one in (*found.designs, *found.own_width):
        assert one.hbm_bytes <= 100 * 2**30
        assert one.host_bytes <= 40 * 2**30
    weights = bytes_per_parameter("bf16")["experts"] * (TOTAL - 402_653_184)
    assert found.baseline.hbm_bytes > weights  # it is told though it does not fit


def test_a_source_without_evidence_drops_the_axis_of_loss() -> None:
    """Engram's studies were at total/active of about 10, Lite's is 15."""
    limits = Limits(total_parameters=TOTAL, host_bytes=2**40, source="engram")
    found = frontier(LITE, limits)
    assert not found.has_loss
    chosen, missing = choose(found, limits)
    assert "evidence-best" not in [one.name for one in chosen]
    assert "engram has no number" in missing[0]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(total_parameters=10**9), "this model needs 4.898B with 12 experts"),
        (Limits(total_parameters=TOTAL, active_parameters=10**8), "experts cannot make up"),
        (Limits(total_parameters=TOTAL, hbm_bytes=2**30), "nothing fits: the smallest design"),
    ],
)
def test_what_cannot_be_is_refused(limits: Limits, message: str) -> None:
    with pytest.raises(NoResultError, match=message):
        frontier(LITE, limits)


def test_a_dense_model_has_no_experts_to_trade() -> None:
    dense = read_design(presets.resolve("llama-3.1-8b"))
    with pytest.raises(SpecError, match="no experts"):
        frontier(dense, Limits(total_parameters=10**10))


def test_active_parameters_asked_for_are_met() -> None:
    limits = Limits(total_parameters=TOTAL, active_parameters=3 * 10**9)
    for one in frontier(LITE, limits).designs:
        assert abs(one.trade.active_parameters / 3e9 - 1) < 0.04


def test_many_ratios_at_once_are_those_found_one_by_one() -> None:
    orders = order_major(4, 2)
    wanted = [78.0, 30.5, 12.2, 28.8, 55.123, 2.0, 100.567, 1.0]
    base = 32_768
    assert sound_ratios(wanted, base, orders) == [sound_ratio(r, base, orders) for r in wanted]


def test_a_design_without_its_tables_is_the_same_model() -> None:
    bare = Design(model=LITE.model)
    assert frontier(bare, Limits(total_parameters=TOTAL)).baseline.trade.num_experts == 494
