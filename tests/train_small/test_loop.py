"""One run: it learns, repeats bytewise, and stops before an update that is not finite."""

import time

import numpy as np
import pytest
import torch

from ngscale.errors import NoResultError
from ngscale.train_small.config import Arm
from ngscale.train_small.loop import OutOfTimeError, Trainer, train
from ngscale.train_small.optimiser import make_optimiser, rate_factor
from ngscale.train_small.run import make_blocks
from tests.model.small import DESIGN, PLAIN
from tests.train_small.small import TRAINING, request


def trainer(num_steps: int = 10, seed: int = 0, device: str = "cpu") -> Trainer:
    return Trainer(
        Arm(name="design", design=DESIGN),
        make_blocks(request()),
        seed=seed,
        num_steps=num_steps,
        training=TRAINING,
        device=torch.device(device),
    )


def test_training_lowers_both_losses() -> None:
    result = train(trainer(num_steps=60))
    assert result.train_curve[-1][1] < result.train_curve[0][1] - 0.5
    assert result.val_curve[-1] == (60 * 64, result.val_loss_nats)
    assert result.val_loss_nats < np.log(64)
    assert [tokens for tokens, _ in result.train_curve] == [20 * 64, 40 * 64, 60 * 64]


def test_two_runs_are_equal_to_the_last_bit() -> None:
    first, second = trainer(), trainer()
    assert train(first) == train(second)
    again = second.decoder.state_dict()
    assert all(torch.equal(w, again[name]) for name, w in first.decoder.state_dict().items())
    assert train(trainer(seed=1)) != train(trainer(seed=0))


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    broken = trainer()
    broken.step(0)
    broken.check()
    with torch.no_grad():
        broken.decoder.lm_head.weight[3, 0] = float("inf")
    before = {name: w.clone() for name, w in broken.decoder.named_parameters()}
    broken.step(1)
    broken.step(2)  # as on CUDA, where the flag is read later
    for name, weight in broken.decoder.named_parameters():
        assert torch.equal(weight, before[name]), name
    with pytest.raises(NoResultError, match=r"arm design, seed 0: .* not finite at step 1 of 10"):
        broken.check()


def test_the_deadline_stops_a_run() -> None:
    with pytest.raises(OutOfTimeError):
        train(trainer(), deadline=time.monotonic())


def test_rates_of_words_and_tables_and_their_decay() -> None:
    rates = {
        len(group["params"]): (group["lr"] / TRAINING.learning_rate, group["weight_decay"])
        for group in make_optimiser(trainer().decoder, TRAINING).param_groups
        if len(group["params"]) == 1
    }
    assert rates == {1: (5.0, 0.0)}  # 1 + E for the words, table_lr_factor for the tables
    for design, factor in ((DESIGN, 5.0), (PLAIN, 1.0)):
        one = Trainer(
            Arm(name="any", design=design),
            make_blocks(request()),
            seed=0,
            num_steps=1,
            training=TRAINING,
            device=torch.device("cpu"),
        )
        embedding = one.decoder.embed_tokens
        words = getattr(embedding, "word_embeddings", embedding).weight
        (group,) = (g for g in one.optimiser.param_groups if g["params"][0] is words)
        assert group["peak"] == pytest.approx(factor * TRAINING.learning_rate)


def test_the_schedule_warms_up_holds_and_decays() -> None:
    factors = [rate_factor(step, 100, TRAINING) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(factors[4:61]) == {1.0}
    assert factors[-1] == pytest.approx(1 / 40)
    assert rate_factor(0, 1, TRAINING) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_cuda_step_in_bf16_makes_no_host_sync() -> None:
    fast = trainer(device="cuda")
    fast.step(0)  # first-use set-up may sync
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fast.step(1)
        fast.step(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    fast.check()
