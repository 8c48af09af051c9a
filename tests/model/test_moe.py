"""Experts: three implementations agree, and all agree with a loop over tokens."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.model.moe import (
    MixtureOfExperts,
    Router,
    batched_matmul,
    can_batch,
    can_group,
    check_ends,
    expert_matmul,
    grouped_matmul,
    looped_matmul,
)

COUNTS = [[3, 5, 0, 4], [12, 0, 0, 0], [0, 0, 0, 12], [1, 1, 1, 9], [2, 3, 0, 4], [0, 0, 0, 0]]
"""Rows of four experts; in the last two some of the twelve are behind those of all."""
CONFIG = DecoderConfig(
    vocab_size=8,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=2,
    moe_intermediate_size=8,
    num_experts=6,
    num_experts_per_tok=2,
)


def product(multiply: Any, counts: list[int]) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Result and gradients."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 8, generator=generator).requires_grad_()
    w = torch.randn(4, 16, 8, generator=generator).requires_grad_()
    out = multiply(x, w, torch.tensor(counts, dtype=torch.int32))
    out.square().sum().backward()
    return out, x.grad, w.grad


@pytest.mark.parametrize("counts", COUNTS)
def test_grouped_and_looped_products_are_equal(counts: list[int]) -> None:
    for grouped, looped in zip(
        product(grouped_matmul, counts), product(looped_matmul, counts), strict=True
    ):
        assert grouped is not None
        assert looped is not None
        assert torch.equal(grouped, looped)


@pytest.mark.parametrize("counts", COUNTS)
def test_batched_and_looped_products_are_close(counts: list[int]) -> None:
    """Not equal: the sum over the empty places of the batch adds in another order."""
    torch.testing.assert_close(product(batched_matmul, counts), product(looped_matmul, counts))


@pytest.mark.parametrize("counts", COUNTS)
def test_rows_behind_all_experts_come_out_as_zero(counts: list[int]) -> None:
    for multiply in (grouped_matmul, batched_matmul, looped_matmul):
        out, gradient, _ = product(multiply, counts)
        assert gradient is not None
        assert not out[sum(counts) :].any()
        assert not gradient[sum(counts) :].any()


@pytest.mark.parametrize("counts", [[3, 5, 0, 5], [13, 0, -1, 0], [3, -1, 5, 5], [-1, 4, 4, 4]])
def test_counts_that_are_not_of_the_rows_are_refused(counts: list[int]) -> None:
    """``grouped_mm`` itself computes wrong rows from such offsets and says nothing."""
    with pytest.raises(RuntimeError, match="row counts"):
        product(grouped_matmul, counts)


def test_too_few_rows_are_refused_where_there_is_no_rest() -> None:
    ends = torch.tensor([3, 8], dtype=torch.int32)
    check_ends(ends, 9, has_rest=True)
    with pytest.raises(RuntimeError, match="row counts"):
        check_ends(ends, 9, has_rest=False)


@pytest.mark.parametrize("num_experts", [2, 9])
def test_an_old_torch_takes_the_next_way(monkeypatch: pytest.MonkeyPatch, num_experts: int) -> None:
    """A padded batch for few experts, the loop for many."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * num_experts, 8, generator=generator)
    weight = torch.randn(num_experts, 4, 8, generator=generator)
    counts = torch.full((num_experts,), 2, dtype=torch.int32)
    expected = expert_matmul(rows, weight, counts)
    monkeypatch.delattr(functional, "grouped_mm")
    assert not can_group(rows, weight)
    assert can_batch(weight) == (num_experts == 2)
    torch.testing.assert_close(expert_matmul(rows, weight, counts), expected)


def filled_moe(**changes: Any) -> MixtureOfExperts:
    moe = MixtureOfExperts(replace(CONFIG, **changes))
    generator = torch.Generator().manual_seed(0)
    for weight in moe.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return moe


def one_token(moe: MixtureOfExperts, x: Tensor, config: DecoderConfig) -> Tensor:
    """The formula, expert by expert."""
    logits = moe.gate.weight @ x + (0 if moe.gate.bias is None else moe.gate.bias)
    scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(0)
    chosen = (scores + moe.gate.e_score_correction_bias).topk(config.num_experts_per_tok).indices
    total = scores[chosen].sum() if config.norm_topk_prob else 1.0
    out = torch.zeros_like(x)
    for expert in chosen:
        weight = config.routed_scaling_factor * scores[expert] / total
        if expert >= config.num_experts:
            out += weight * x
            continue
        gate, up = (moe.experts.gate_up_proj[expert] @ x).chunk(2)
        out += weight * (moe.experts.down_proj[expert] @ (functional.silu(gate) * up))
    if moe.shared_experts is not None:
        shared = moe.shared_experts
        inner = functional.silu(shared.gate_proj.weight @ x) * (shared.up_proj.weight @ x)
        out += shared.down_proj.weight @ inner
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_zero_experts": 3, "num_experts_per_tok": 4},
        {"num_zero_experts": 4, "scoring_func": "softmax", "norm_topk_prob": False},
        {"num_shared_experts": 2, "routed_scaling_factor": 2.5},
        {"router_bias": True, "num_zero_experts": 1, "num_shared_experts": 1},
    ],
)
def test_the_layer_equals_a_loop_over_tokens(changes: dict[str, Any]) -> None:
    moe, config = filled_moe(**changes), replace(CONFIG, **changes)
    moe.gate.e_score_correction_bias.copy_(
        torch.randn(len(moe.gate.load), generator=torch.Generator().manual_seed(3)) / 10
    )
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    expected = torch.stack(
        [torch.stack([one_token(moe, x[b, t], config) for t in range(5)]) for b in range(2)]
    )
    weights = [x, *moe.parameters()]
    mine = torch.autograd.grad(moe(x).square().sum(), weights)
    theirs = torch.autograd.grad(expected.square().sum(), weights)
    torch.testing.assert_close(moe(x), expected)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_zero_experts_alone_return_the_token() -> None:
    moe = filled_moe(num_zero_experts=2)
    moe.gate.e_score_correction_bias[:6] = -10
    x = torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(moe(x), x)  # the two weights sum to 1


def test_the_bias_chooses_but_does_not_weigh() -> None:
    router = Router(replace(CONFIG, hidden_size=4, num_experts=3))
    torch.nn.init.zeros_(router.weight)
    router.e_score_correction_bias.copy_(torch.tensor([0.0, 1.0, 1.0]))
    chosen, weights, counts = router(torch.ones(1, 5, 4))
    assert sorted(chosen[0].tolist()) == [1, 2]
    assert counts.tolist() == [0, 5, 5]
    torch.testing.assert_close(weights, torch.full((5, 2), 0.5))


def test_balancing_moves_the_load_of_a_lopsided_router() -> None:
    router = Router(replace(CONFIG, hidden_size=4, num_experts=4, num_experts_per_tok=1))
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(router.weight, std=0.05, generator=generator)
    router.e_score_correction_bias[0] = 0.5
    x = torch.randn(1, 256, 4, generator=generator)
    assert router(x)[2].tolist() == [256, 0, 0, 0]
    for _ in range(200):
        router.balance(0.01)
        router(x)
    assert int(router(x)[2].max()) < 128
    router.eval()
    router.load.zero_()
    router(x)
    assert router.load.sum() == 0


def test_the_sequence_loss_is_that_of_deepseek_v3() -> None:
    """arXiv:2412.19437, Eq. 17 to 20, written out for each sequence."""
    moe = filled_moe(router_aux_loss_coef=0.01, num_zero_experts=2)
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
    moe(x)
    losses = []
    for sequence in x:
        scores = (sequence @ moe.gate.weight.T).sigmoid()
        chosen = scores.topk(2).indices
        losses.append(
            sum(
                8 / (2 * 5) * (chosen == i).sum() * (scores / scores.sum(1, True))[:, i].mean()
                for i in range(8)
            )
        )
    assert moe.gate.balance_loss is not None
    torch.testing.assert_close(moe.gate.balance_loss, torch.stack(losses).mean())


def test_a_balanced_router_has_sequence_loss_one() -> None:
    """f_i = 1 and sum P_i = 1: the least there is."""
    router = Router(replace(CONFIG, num_experts=4, router_aux_loss_coef=0.01))
    torch.nn.init.zeros_(router.weight)
    router(torch.ones(1, 8, 16))
    assert router.balance_loss is not None
    assert router.balance_loss.item() == pytest.approx(1.0)


def test_evaluation_leaves_no_balance_loss() -> None:
    router = Router(replace(CONFIG, router_aux_loss_coef=0.01)).eval()
    torch.nn.init.zeros_(router.weight)
    router(torch.ones(1, 8, 16))
    assert router.balance_loss is None
