"""Row-wise Adam: a plain-Python twin, torch's AdamW on touched rows, both ways to find slots."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ngscale.errors import InputError
from ngscale.train_small.distributed import World
from ngscale.train_small.row_adam import RowAdam, RowState
from ngscale.train_small.row_slots import distinct_rows, distinct_rows_fixed
from ngscale.train_small.row_table import RowTable
from tests.reference import row_adam_steps

BETAS, EPS = (0.9, 0.95), 1e-10
GO = torch.tensor(True)
ONE = torch.tensor(1.0)
BATCHES = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=8), min_size=1, max_size=8)


def table_of(weight: Tensor, world: World | None = None) -> RowTable:
    return RowTable(weight.clone(), world or World())


def gradients(batches: list[list[int]], width: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(batches))
    return [torch.randn(len(ids), width, generator=generator).double() for ids in batches]


def trained(
    batches: list[list[int]], *, on_device: bool, weight_decay: float = 0.0, lr: float = 0.01
) -> tuple[Tensor, RowState]:
    """The tables after a step of each batch of look-ups, by ``sum(rows * gradient)``."""
    weight = torch.arange(36, dtype=torch.float64).view(12, 3) / 36
    table = table_of(weight)
    state = RowState(table, on_device=on_device)
    for ids, grad in zip(batches, gradients(batches), strict=True):
        rows = table(torch.tensor(ids))
        (rows * grad).sum().backward()
        touched = state.take_gradient()
        assert touched is not None
        state.update(
            touched, lr=lr, betas=BETAS, eps=EPS, weight_decay=weight_decay, scale=ONE, go=GO
        )
    return table.weight.detach(), state


@given(BATCHES, st.booleans(), st.sampled_from([0.0, 0.1]))
def test_rows_are_those_of_the_plain_python_twin(
    batches: list[list[int]], on_device: bool, weight_decay: float
) -> None:
    found, _ = trained(batches, on_device=on_device, weight_decay=weight_decay)
    expected = row_adam_steps(
        [[(3 * row + column) / 36 for column in range(3)] for row in range(12)],
        [
            list(zip(ids, grad.tolist(), strict=True))
            for ids, grad in zip(batches, gradients(batches), strict=True)
        ],
        lr=0.01,
        betas=BETAS,
        eps=EPS,
        weight_decay=weight_decay,
    )
    for row, wanted in zip(found.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-11, abs=1e-14)


@given(BATCHES)
def test_each_row_goes_through_the_adamw_of_its_own_steps(batches: list[list[int]]) -> None:
    """torch's dense AdamW, given row r alone and only the steps that look it up."""
    found, _ = trained(batches, on_device=False, weight_decay=0.1)
    for row in range(12):
        weight = torch.nn.Parameter(torch.arange(36, dtype=torch.float64).view(12, 3)[row] / 36)
        dense = torch.optim.AdamW([weight], lr=0.01, betas=BETAS, eps=EPS, weight_decay=0.1)
        for ids, grad in zip(batches, gradients(batches), strict=True):
            if row in ids:
                weight.grad = grad[torch.tensor(ids) == row].sum(0)
                dense.step()
        assert torch.allclose(found[row], weight.detach(), rtol=1e-11, atol=1e-14)


def test_in_float32_a_batch_over_all_rows_is_dense_adamw() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    table, dense = table_of(weight), torch.nn.Parameter(weight.clone())
    rows_adam = RowAdam([("t", table)], lr=0.01, betas=BETAS, eps=EPS, weight_decay=0.0)
    adam = torch.optim.AdamW([dense], lr=0.01, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)
    for _ in range(20):
        target = torch.randn(50, 8, generator=generator)
        ids = torch.randperm(50, generator=generator)
        (table(ids) - target[ids]).square().sum().backward()
        adam.zero_grad()
        (dense - target).square().sum().backward()  # type: ignore[no-untyped-call]
        norm = rows_adam.take_gradients(weight.device)
        assert dense.grad is not None
        assert norm.item() == pytest.approx(dense.grad.square().sum().item(), rel=1e-5)
        rows_adam.step(scale=ONE, go=GO)
        adam.step()
    assert torch.allclose(table.weight, dense, rtol=1e-5, atol=1e-6)


@given(BATCHES)
def test_both_ways_give_the_same_state(batches: list[list[int]]) -> None:
    host, host_state = trained(batches, on_device=False)
    device, device_state = trained(batches, on_device=True)
    assert torch.allclose(host, device, rtol=1e-13, atol=0)
    expected = host_state.tensors()
    assert expected["rows"].tolist() == sorted({row for ids in batches for row in ids})
    for name, tensor in device_state.tensors().items():
        assert torch.allclose(tensor, expected[name], rtol=1e-13, atol=0), name


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 10))
def test_distinct_rows_are_sorted_sums_of_those_held(ids: list[int], num_rows: int) -> None:
    """The id ``num_rows`` stands for all rows of other ranks."""
    ids = [min(row, num_rows) for row in ids]
    values = torch.arange(len(ids), dtype=torch.float64).unsqueeze(1) + 1
    expected = {
        row: float(sum(i + 1 for i, each in enumerate(ids) if each == row))
        for row in sorted(set(ids))
        if row < num_rows
    }
    rows, sums = distinct_rows(torch.tensor(ids), values, num_rows)
    assert dict(zip(rows.tolist(), sums[:, 0].tolist(), strict=True)) == expected
    rows, sums, count = distinct_rows_fixed(torch.tensor(ids), values, num_rows)
    assert len(rows) == len(ids)
    assert count == len(expected)
    assert dict(list(zip(rows.tolist(), sums[:, 0].tolist(), strict=True))[:count]) == expected
    if expected:
        first = next(iter(expected.items()))
        rest = zip(rows.tolist()[count:], sums[count:, 0].tolist(), strict=True)
        assert all(pair == first for pair in rest)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_step_that_failed_changes_nothing(on_device: bool) -> None:
    table = table_of(torch.ones(5, 2))
    state = RowState(table, on_device=on_device)
    for go in (True, False):
        table(torch.tensor([1, 3, 3])).sum().backward()
        touched = state.take_gradient()
        assert touched is not None
        before = table.weight.detach().clone()
        state.update(
            touched,
            lr=0.1,
            betas=BETAS,
            eps=EPS,
            weight_decay=0.0,
            scale=ONE,
            go=torch.tensor(go),
        )
        assert torch.equal(table.weight, before) != go
    assert state.tensors()["steps"].tolist() == [1, 1]


@pytest.mark.parametrize("on_device", [False, True])
def test_rows_of_other_ranks_leave_the_share_alone(on_device: bool) -> None:
    table = table_of(torch.ones(6, 2), World(rank=1, size=2))  # rows 3, 4, 5
    state = RowState(table, on_device=on_device)
    table.pending.append((torch.tensor([3, 3]), torch.ones(2, 2)))  # 3: held by others
    if (touched := state.take_gradient()) is not None:
        assert touched.squared_norm() == 0
        state.update(touched, lr=0.1, betas=BETAS, eps=EPS, weight_decay=0.1, scale=ONE, go=GO)
    assert torch.equal(table.weight, torch.ones(3, 2))
    assert state.tensors()["rows"].tolist() == []
    assert table.own(torch.tensor([0, 3, 5])).tolist() == [3, 0, 2]


@pytest.mark.parametrize("on_device", [False, True])
def test_state_grows_with_the_rows_seen(on_device: bool) -> None:
    table = table_of(torch.zeros(200_000, 2))
    state = RowState(table, on_device=on_device)
    rows = torch.randperm(200_000, generator=torch.Generator().manual_seed(0))[:5_000]
    for part in rows.view(5, 1_000):
        table(part).sum().backward()
        touched = state.take_gradient()
        assert touched is not None
        state.update(touched, lr=0.1, betas=BETAS, eps=EPS, weight_decay=0.0, scale=ONE, go=GO)
        state.slots.refresh()
    assert state.tensors()["rows"].tolist() == sorted(rows.tolist())
    assert 5_000 <= len(state.exp_avg) == len(state.steps) <= 7_600


def test_saved_state_is_taken_up_by_whoever_holds_the_rows() -> None:
    batches = [[0, 3, 3, 11], [5, 3], [10]]
    whole, state = trained(batches, on_device=False)
    saved = state.tensors()
    parts = []
    for rank in range(3):
        other = RowState(table_of(whole, World(rank=rank, size=3)))
        other.load(saved, "here")
        parts.append(other.tensors())
    for name, tensor in saved.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)


@pytest.mark.parametrize("rows", [[-1, 2], [2, 12], [3, 3]])
def test_saved_rows_that_are_none_are_refused(rows: list[int]) -> None:
    state = RowState(table_of(torch.zeros(12, 1)))
    moments = torch.zeros(2, 1)
    saved = {
        "rows": torch.tensor(rows),
        "exp_avg": moments,
        "exp_avg_sq": moments,
        "steps": torch.ones(2, dtype=torch.int32),
    }
    with pytest.raises(InputError, match=r"here: rows: must be distinct, from 0 to 11"):
        state.load(saved, "here")


def test_the_first_step_has_the_size_of_the_rate() -> None:
    """m/(1-b1) = g and v/(1-b2) = g^2 after one step: lr * sign(g), whatever the step of others."""
    table = table_of(torch.zeros(4, 1))
    adam = RowAdam([("t", table)], lr=0.5, betas=BETAS, eps=EPS, weight_decay=0.0)
    for row in (0, 0, 0, 2):
        (table(torch.tensor([row])) * -3.0).sum().backward()
        adam.take_gradients(torch.device("cpu"))
        adam.step(scale=ONE, go=GO)
    assert table.weight[2].item() == pytest.approx(0.5)
    assert table.weight[1].item() == 0.0
    assert math.isclose(table.weight[0].item(), 1.5, rel_tol=1e-5)
