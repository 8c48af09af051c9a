"""Memory is estimated before anything is allocated."""

from dataclasses import replace

import pytest
import torch

from ngscale.errors import ResourceError
from ngscale.params import parameter_groups
from ngscale.train_small import memory
from ngscale.train_small.config import DEFAULT_DESIGN, TRAINING, Arm
from ngscale.train_small.distributed import ALONE, World

ARM = Arm(name="design", design=DEFAULT_DESIGN)
CPU = torch.device("cpu")


def test_the_estimate_by_hand() -> None:
    """5,100,000 parameters, 70,612 rows of 32 in tables; 1,024 tokens x 4,096 logits.

    Evaluation takes a rank's share of a batch at once, however training divides it.
    """
    tables = 70_612 * 32
    backbone = sum(parameter_groups(DEFAULT_DESIGN).values()) - tables
    expected = 4 * (4 * backbone + tables + 2 * 1024 * 4096)
    assert memory.least_bytes(ARM, TRAINING, ALONE) == expected
    halves = memory.least_bytes(ARM, replace(TRAINING, accumulation=2), World(size=2))
    assert halves == 4 * (4 * backbone + tables // 2 + 2 * 512 * 4096)


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: 64 * 2**20)
    with pytest.raises(
        ResourceError,
        match=r"arm design on cpu: needs at least \d+\.\d+ MiB of memory, 64\.00 MiB are free",
    ):
        memory.check_memory(ARM, TRAINING, ALONE, CPU)
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    memory.check_memory(ARM, TRAINING, ALONE, CPU)


def test_the_system_tells_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.free_bytes(CPU)
    assert free is not None
    assert 2**20 < free < 2**50
    monkeypatch.setattr(memory, "machine_bytes", lambda: 2**20)
    assert memory.free_bytes(CPU) == 2**20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.free_bytes(CPU) == 2**18
