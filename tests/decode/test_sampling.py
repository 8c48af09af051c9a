"""Speculative sampling keeps the distribution, by a test that fails for rules that do not."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from ngscale.decode import sampling
from ngscale.decode.rejection import Threshold
from ngscale.decode.sampling import Draft, Sampling, Verdict, draw, verify_greedy, verify_sampling

P = torch.tensor(
    [[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64
)
"""Of the model at three places, whatever stood before."""
Q = torch.tensor([[0.2, 0.2, 0.2, 0.4], [0.7, 0.1, 0.1, 0.1]], dtype=torch.float64)
NUMBER = 20_000


def p_value(verdict: Verdict, draft: Draft) -> float:
    """Of the first two tokens that come out together, where P is what they should follow.

    A verdict of one token says nothing about the second; that is drawn from P, as the next step
    would.
    """
    generator = torch.Generator().manual_seed(99)
    again = torch.rand(len(draft.tokens), generator=generator, dtype=torch.float64)
    stands = torch.cat([draft.tokens, draft.tokens[:, :1]], dim=1)
    out = stands.scatter(1, verdict.accepted.unsqueeze(1), verdict.next_token.unsqueeze(1))
    second = torch.where(verdict.accepted >= 1, out[:, 1], draw(P[1].expand(len(out), -1), again))
    counts = np.bincount((out[:, 0] * 4 + second).numpy(), minlength=16)
    expected = (P[0].unsqueeze(1) * P[1]).flatten().numpy() * len(out)
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), 15))


def drafted(kind: str) -> tuple[Draft, Tensor]:
    """Drafts, and the numbers that decide about them."""
    generator = torch.Generator().manual_seed(7)
    uniforms = torch.rand(NUMBER, 5, generator=generator, dtype=torch.float64)
    q = Q.expand(NUMBER, -1, -1)
    tokens = draw(q, uniforms[:, :2])
    counts = torch.full((NUMBER,), 2)
    if kind == "certain":
        tokens = torch.tensor([[1, 3]]).expand(NUMBER, -1)
        return Draft(tokens, counts, None), uniforms[:, 2:]
    if kind == "cut":
        counts = torch.arange(NUMBER) % 3
    if kind == "rejected early":
        rejector = Threshold("head", math.log(0.15))
        kept = q.gather(2, tokens.unsqueeze(2)).squeeze(2) >= 0.15
        counts = kept.long().cumprod(1).sum(1)
        logits = q.log()
        q = torch.stack([rejector.restrict(q[:, i], logits[:, i]) for i in range(2)], dim=1)
    if kind == "rejected early, as if not":
        counts = (q.gather(2, tokens.unsqueeze(2)).squeeze(2) >= 0.15).long().cumprod(1).sum(1)
    return Draft(tokens, counts, q), uniforms[:, 2:]


@pytest.mark.parametrize("kind", ["drawn", "certain", "cut", "rejected early"])
def test_what_comes_out_is_distributed_as_the_model_says(kind: str) -> None:
    draft, uniforms = drafted(kind)
    verdict = verify_sampling(P.expand(NUMBER, -1, -1), draft, uniforms)
    assert p_value(verdict, draft) > 0.01


def always(probabilities: Tensor, draft: Draft, uniforms: Tensor) -> Verdict:
    """Wrong: takes every draft."""
    last = draw(probabilities[:, -1], uniforms[:, -1])
    return Verdict(draft.counts, last)


def from_p(probabilities: Tensor, draft: Draft, uniforms: Tensor) -> Verdict:
    """Wrong: draws from p where a draft falls, not from the rest of p - q."""
    right = verify_sampling(probabilities, draft, uniforms)
    p = probabilities.gather(1, right.accepted[:, None, None].expand(-1, 1, 4)).squeeze(1)
    return Verdict(right.accepted, draw(p, uniforms[:, -1]))


def half(probabilities: Tensor, draft: Draft, uniforms: Tensor) -> Verdict:
    """Wrong: a token stands with min(1, p / 2q), and the rest is as if it were p / q."""
    bent = uniforms.clone()
    bent[:, :2] *= 2
    return verify_sampling(probabilities, draft, bent)


@pytest.mark.parametrize("rule", [always, from_p, half])
def test_the_same_test_fails_for_a_wrong_rule(rule: Callable[..., Any]) -> None:
    draft, uniforms = drafted("drawn")
    verdict = rule(P.expand(NUMBER, -1, -1), draft, uniforms)
    assert p_value(verdict, draft) < 1e-6


def test_it_fails_where_drafts_are_dropped_by_their_token_and_q_is_not_restricted() -> None:
    draft, uniforms = drafted("rejected early, as if not")
    verdict = verify_sampling(P.expand(NUMBER, -1, -1), draft, uniforms)
    assert p_value(verdict, draft) < 1e-6


def test_tokens_stand_as_often_as_the_distributions_overlap() -> None:
    """Leviathan et al., theorem 3.5: sum_x min(p(x), q(x)) of the first token."""
    draft, uniforms = drafted("drawn")
    verdict = verify_sampling(P.expand(NUMBER, -1, -1), draft, uniforms)
    rate = float((verdict.accepted >= 1).double().mean())
    overlap = float(torch.minimum(P[0], Q[0]).sum())
    assert rate == pytest.approx(overlap, abs=4 * math.sqrt(overlap * (1 - overlap) / NUMBER))


def test_greedy_stands_up_to_the_first_other_token() -> None:
    logits = torch.eye(4)[torch.tensor([[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])]
    tokens = torch.tensor([[1, 2], [1, 0], [0, 2], [1, 2]])
    counts = torch.tensor([2, 2, 2, 1])
    verdict = verify_greedy(logits, Draft(tokens, counts, None))
    assert verdict.accepted.tolist() == [2, 1, 0, 1]
    assert verdict.next_token.tolist() == [3, 2, 1, 2]


def test_top_p_leaves_the_fewest_tokens_that_hold_the_share() -> None:
    logits = P.log()
    found = Sampling(temperature=1.0, top_p=0.75).probabilities(logits)
    torch.testing.assert_close(found[0], torch.tensor([0.625, 0.375, 0, 0]).double())
    torch.testing.assert_close(found[1], torch.tensor([0, 2, 3, 4]).double() / 9)
    sharp = Sampling(temperature=0.5).probabilities(logits)
    torch.testing.assert_close(sharp[0], P[0] ** 2 / (P[0] ** 2).sum())


def test_a_token_without_weight_is_never_drawn() -> None:
    weights = torch.tensor([[0.0, 0.4, 0.0, 0.6, 0.0]], dtype=torch.float64)
    for uniform, token in ((0.0, 1), (0.39, 1), (0.4, 3), (1.0, 3)):
        drawn = draw(weights, torch.tensor([uniform], dtype=torch.float64))
        assert drawn.item() == token


def test_dice_are_those_of_the_sequence() -> None:
    together = sampling.Dice(5, 3).roll(4, torch.device("cpu"))
    alone = sampling.Dice(5, 1, first=2).roll(4, torch.device("cpu"))
    assert torch.equal(together[2:], alone)
    assert not torch.equal(together[0], together[1])
    other_seed = sampling.Dice(6, 3).roll(4, torch.device("cpu"))
    assert not torch.isin(other_seed, together).any()
