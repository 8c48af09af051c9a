"""One run: it learns, repeats bytewise, and stops before an update that is not finite."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from ngscale.errors import NoResultError, UsageError
from ngscale.model.decoder import Decoder
from ngscale.train_small.config import Arm, Training
from ngscale.train_small.loop import OutOfTimeError, train
from ngscale.train_small.optimiser import rate_factor
from ngscale.train_small.run import make_blocks
from ngscale.train_small.trainer import Trainer
from ngscale.train_small.usage import layer_loads
from tests.model.small import DESIGN, INDUCTOR_WARNS, PLAIN
from tests.train_small.small import TRAINING, request


def trainer(
    num_steps: int = 10, seed: int = 0, device: str = "cpu", training: Training = TRAINING
) -> Trainer:
    return Trainer(
        Arm(name="design", design=DESIGN),
        make_blocks(request()),
        seed=seed,
        num_steps=num_steps,
        training=training,
        device=torch.device(device),
    )


def test_training_lowers_both_losses() -> None:
    result = train(trainer(num_steps=60))
    assert result.train_curve[-1][1] < result.train_curve[0][1] - 0.5
    assert result.val_curve[-1] == (60 * 64, result.val_loss_nats)
    assert result.val_loss_nats < np.log(64)
    assert [tokens for tokens, _ in result.train_curve] == [20 * 64, 40 * 64, 60 * 64]


def test_the_last_evaluation_tells_the_load_of_the_experts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate, calls = Trainer.evaluate, []

    def counted(self: Trainer) -> np.ndarray:
        calls.append(self.seed)
        return evaluate(self)

    monkeypatch.setattr(Trainer, "evaluate", counted)
    one = trainer()
    train(one)
    loads = layer_loads(one)
    assert len(calls) == TRAINING.num_evals
    assert [load.layer for load in loads] == [0, 1]
    assert all(1 <= load.max_over_mean <= 2 for load in loads)
    assert all(2 <= load.effective_experts <= 4 for load in loads)


@INDUCTOR_WARNS
def test_the_load_of_experts_is_counted_in_compiled_layers() -> None:
    """8 blocks of 16 tokens, two experts each, in the second evaluation as in the first."""
    one = trainer()
    for layer in one.decoder.layers:
        layer.compile(backend="eager")
    for _ in range(2):
        one.evaluate()
        assert [router.eval_load.sum() for router in one.decoder.routers()] == [8 * 16 * 2] * 2


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_of_a_row_that_is_not_finite_stops_before_the_update(bad: float) -> None:
    broken = trainer()
    (state,) = broken.optimiser.tables.states.values()

    def spoil(phase: str) -> None:
        if phase == "clip":
            state.table.pending[0][1][5, 2] = bad

    broken.at = spoil
    before = {name: w.clone() for name, w in broken.decoder.named_parameters()}
    broken.step(0)
    for name, weight in broken.decoder.named_parameters():
        assert torch.equal(weight, before[name]), name
    with pytest.raises(NoResultError, match="gradient is not finite at step 0 of 10"):
        broken.check()


def test_the_deadline_stops_a_run() -> None:
    with pytest.raises(OutOfTimeError):
        train(trainer(), deadline=time.monotonic())


def test_rates_of_words_and_tables_and_their_decay() -> None:
    optimiser = trainer().optimiser
    optimiser.set_rate(0.5)
    tables = optimiser.tables
    assert (tables.lr, tables.weight_decay) == (0.5 * 5 * TRAINING.learning_rate, 0.0)
    assert {group["weight_decay"] for group in optimiser.backbone.param_groups} == {0.0, 0.1}
    for design, factor in ((DESIGN, 5.0), (PLAIN, 1.0)):  # 1 + E for the words
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
        groups = one.optimiser.backbone.param_groups
        (group,) = (g for g in groups if any(weight is words for weight in g["params"]))
        assert group["peak"] == pytest.approx(factor * TRAINING.learning_rate)
        assert group["weight_decay"] == 0.0


def test_every_parameter_has_one_optimiser() -> None:
    one = trainer()
    dense = {id(weight) for weight in one.optimiser.weights}
    tables = {id(state.table.weight) for state in one.optimiser.tables.states.values()}
    assert dense | tables == {id(weight) for weight in one.decoder.parameters()}
    assert len(tables) == 1
    assert not dense & tables


def test_two_parts_of_a_batch_give_the_step_of_the_whole() -> None:
    """Equal up to the order of float32 sums, after 6 steps of a rate of 3e-3."""
    whole = trainer(num_steps=6)
    parts = trainer(num_steps=6, training=replace(TRAINING, accumulation=2))
    assert train(parts).val_loss_nats == pytest.approx(train(whole).val_loss_nats, rel=1e-5)


def test_parts_that_do_not_divide_a_batch_are_refused() -> None:
    with pytest.raises(UsageError, match="--accumulation 3: does not divide the 4 blocks"):
        trainer(training=replace(TRAINING, accumulation=3))


def test_clipping_counts_tables_and_backbone() -> None:
    """The norm against a dense model's, and the factor that brings it to max_norm."""
    one = trainer()
    batch = torch.from_numpy(one.blocks.batch(seed=0, step=0, batch_size=4))
    dense = Decoder(DESIGN)
    dense.initialise(0)
    logits = dense(batch[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    expected = torch.nn.utils.get_total_norm(
        [w.grad for w in dense.parameters() if w.grad is not None]
    )
    one._backward(batch)
    norm, scale = one.optimiser.clip(0.25)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (norm * scale).item() == pytest.approx(0.25, rel=1e-4)


def test_the_schedule_warms_up_holds_and_decays() -> None:
    factors = [rate_factor(step, 100, TRAINING) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(factors[4:61]) == {1.0}
    assert factors[-1] == pytest.approx(1 / 40)
    assert rate_factor(0, 1, TRAINING) == 1.0


def test_the_cosine_warms_up_and_falls_to_nearly_nothing() -> None:
    cosine = replace(TRAINING, schedule="cosine")
    factors = [rate_factor(step, 100, cosine) for step in range(100)]
    assert factors[4] == 1.0
    assert factors[52] == pytest.approx(0.5, abs=0.02)  # half of the 95 steps after the warmup
    assert 0 < factors[-1] < 0.001
    assert factors[4:] == sorted(factors[4:], reverse=True)


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
