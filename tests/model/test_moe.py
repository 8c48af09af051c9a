"""Experts: two implementations agree, and both agree with a loop over tokens."""

import pytest
import torch
from torch.nn import functional

from ngscale.model.moe import (
    MixtureOfExperts,
    Router,
    can_group,
    expert_matmul,
    grouped_matmul,
    looped_matmul,
)

COUNTS = [[3, 5, 0, 4], [12, 0, 0, 0], [0, 0, 0, 12], [1, 1, 1, 9]]


@pytest.mark.parametrize("counts", COUNTS)
def test_grouped_and_looped_products_agree(counts: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 8, generator=generator)
    weight = torch.randn(4, 16, 8, generator=generator)
    assert can_group(rows, weight)
    outs, gradients = [], []
    for product in (grouped_matmul, looped_matmul):
        x, w = rows.clone().requires_grad_(), weight.clone().requires_grad_()
        out = product(x, w, torch.tensor(counts, dtype=torch.int32))
        out.square().sum().backward()  # type: ignore[no-untyped-call]
        outs.append(out)
        gradients.append((x.grad, w.grad))
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_an_old_torch_falls_back_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, weight = torch.ones(2, 8), torch.ones(2, 4, 8)
    counts = torch.tensor([1, 1], dtype=torch.int32)
    expected = expert_matmul(rows, weight, counts)
    monkeypatch.delattr(functional, "grouped_mm")
    assert not can_group(rows, weight)
    torch.testing.assert_close(expert_matmul(rows, weight, counts), expected)


def filled_moe() -> MixtureOfExperts:
    moe = MixtureOfExperts(16, 8, 6, 2)
    generator = torch.Generator().manual_seed(0)
    for weight in moe.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return moe


def test_the_layer_equals_a_loop_over_tokens() -> None:
    moe = filled_moe()
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros_like(x)
    for b in range(2):
        for t in range(5):
            scores = torch.sigmoid(moe.gate.weight @ x[b, t])
            chosen = scores.topk(2).indices
            for expert in chosen:
                gate, up = (moe.experts.gate_up_proj[expert] @ x[b, t]).chunk(2)
                out = moe.experts.down_proj[expert] @ (functional.silu(gate) * up)
                expected[b, t] += scores[expert] / scores[chosen].sum() * out
    torch.testing.assert_close(moe(x), expected)


def test_the_bias_chooses_but_does_not_weigh() -> None:
    router = Router(4, 3, 2)
    torch.nn.init.zeros_(router.weight)
    router.e_score_correction_bias.copy_(torch.tensor([0.0, 1.0, 1.0]))
    chosen, weights, counts = router(torch.ones(5, 4))
    assert sorted(chosen[0].tolist()) == [1, 2]
    assert counts.tolist() == [0, 5, 5]
    torch.testing.assert_close(weights, torch.full((5, 2), 0.5))


def test_balancing_moves_the_load_of_a_lopsided_router() -> None:
    router = Router(4, 4, 1)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(router.weight, std=0.05, generator=generator)
    router.e_score_correction_bias[0] = 0.5
    x = torch.randn(256, 4, generator=generator)
    assert router(x)[2].tolist() == [256, 0, 0, 0]
    for _ in range(200):
        router.balance(0.01)
        router(x)
    assert int(router(x)[2].max()) < 128
    router.eval()
    router.load.zero_()
    router(x)
    assert router.load.sum() == 0
