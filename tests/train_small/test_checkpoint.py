"""What resumes, what is refused and in which words; full disks, Ctrl-C, damaged files."""

import errno
import json
import os
import shutil
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ngscale.errors import InputError, ResourceError, UnsafeInputError
from ngscale.train_small.checkpoint import At, Checkpoints, ignore
from ngscale.train_small.config import Arm
from ngscale.train_small.loop import RunResult, train
from ngscale.train_small.run import make_blocks
from ngscale.train_small.run_log import LOG_NAME, RunLog
from ngscale.train_small.trainer import Trainer
from tests.model.small import DESIGN, PLAIN
from tests.train_small.small import TRAINING, request

NUM_STEPS = 9


def trainer(*, plain: bool = False, at: At = ignore) -> Trainer:
    return Trainer(
        Arm(name="design", design=PLAIN if plain else DESIGN),
        make_blocks(request()),
        seed=0,
        num_steps=NUM_STEPS,
        training=TRAINING,
        device=torch.device("cpu"),
        at=at,
    )


def checkpoints(directory: Path, *, keep: int = 2, at: At = ignore, **identity: Any) -> Checkpoints:
    return Checkpoints(
        directory / "checkpoints", identity={"seed": 0, **identity}, every=2, keep=keep, at=at
    )


def run(directory: Path, one: Trainer | None = None) -> RunResult:
    return train(
        one or trainer(), checkpoints=checkpoints(directory), log=RunLog(directory / LOG_NAME)
    )


def stop_at_step(number: int, how: Callable[[], None]) -> At:
    """Calls ``how`` as the batch of the nth step is read."""
    met = 0

    def at(phase: str) -> None:
        nonlocal met
        met += phase == "batch"
        if phase == "batch" and met == number:
            how()

    return at


def interrupted_run(directory: Path) -> None:
    """A run that ends in its 7th step, with checkpoints of 4 and 6."""

    def die() -> None:
        raise RuntimeError("the end")

    with pytest.raises(RuntimeError, match="the end"):
        run(directory, trainer(at=stop_at_step(7, die)))


def shard(directory: Path, step: int = 6) -> Path:
    (found,) = (directory / "checkpoints" / f"step-{step:08d}").glob("*.safetensors")
    return found


def test_a_resumed_run_has_the_result_of_a_whole_one(tmp_path: Path) -> None:
    expected = run(tmp_path / "whole")
    interrupted_run(tmp_path)
    done: list[int] = []
    result = train(trainer(), checkpoints=checkpoints(tmp_path), advance=done.append)
    assert result == expected
    assert done == [6, 1, 1, 1]


def test_the_last_k_are_kept(tmp_path: Path) -> None:
    train(trainer(), checkpoints=checkpoints(tmp_path, keep=3))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000006", "step-00000008"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_step_and_saves_it(tmp_path: Path, number: int) -> None:
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, trainer(at=stop_at_step(4, lambda: os.kill(os.getpid(), number))))
    finally:
        signal.signal(signal.SIGTERM, handler)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000004"]
    assert run(tmp_path) == run(tmp_path / "whole")


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("step-00000006/*")}
    assert len(before) == 2

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceError, match=r"step-00000008: the disk is full; make room"):
            run(tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000006"]
    assert run(tmp_path) == run(tmp_path / "whole")


def test_another_design_is_refused_by_key(tmp_path: Path) -> None:
    train(trainer(), checkpoints=checkpoints(tmp_path, design={"layers": [2], "hidden_size": 32}))
    other = checkpoints(tmp_path, design={"layers": [2], "hidden_size": 64})
    with pytest.raises(
        InputError,
        match=r"training\.json: design\.hidden_size: is 32, this run has 64; choose another --out",
    ):
        train(trainer(), checkpoints=other)


def test_tensors_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    with pytest.raises(InputError, match=r"step-00000006: model\.\S+: (is missing|is torch)"):
        train(trainer(plain=True), checkpoints=checkpoints(tmp_path))


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    path = shard(tmp_path)
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    tensors = load_file(path)
    tensors["model.lm_head.weight"][3, 0] = float("nan")
    save_file(tensors, path, metadata=header["__metadata__"])
    with pytest.raises(
        InputError, match=rf"{path.name}: model\.lm_head\.weight: \[3, 0\]: is nan, .* remove its"
    ):
        run(tmp_path)


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _longer_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**60) + data[8:]


def _other_offsets(data: bytes) -> bytes:
    return data.replace(b'"data_offsets":[0,', b'"data_offsets":[8,', 1)


def _moved_shard(data: bytes) -> bytes:
    """A shard said to lie 10**15 rows further down."""
    return data.replace(rb"[0, 0]", rb"[1000000000000000, 0]", 1)


@pytest.mark.parametrize(
    "damage",
    [_cut, _longer_header, _other_offsets, _moved_shard, lambda _: b"", lambda _: b"\x80pickle"],
)
def test_damaged_tensors_are_an_error_that_names_the_way_out(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    interrupted_run(tmp_path)
    path = shard(tmp_path)
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    with pytest.raises(InputError, match=r"step-00000006[/:].*; the checkpoint is damaged: remove"):
        run(tmp_path)
    shutil.rmtree(path.parent)  # the way out
    assert run(tmp_path) == run(tmp_path / "whole")


def test_a_link_out_of_the_checkpoint_is_not_followed(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    path = shard(tmp_path)
    elsewhere = tmp_path / "elsewhere.safetensors"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(UnsafeInputError, match="is a link that leads outside"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"schema_version": 9}, "schema_version: must be 1"),
        ({"progress": None}, "progress: is missing or no dict"),
        ({"step": "6"}, "step: is missing or no int"),
        ({"progress": {"step": 6}}, "progress: 'train_curve'"),
        (None, "Expecting value"),
    ],
)
def test_a_damaged_document_is_refused(
    tmp_path: Path, change: dict[str, Any] | None, problem: str
) -> None:
    interrupted_run(tmp_path)
    path = shard(tmp_path).with_name("training.json")
    document = json.loads(path.read_text())
    path.write_text("oops" if change is None else json.dumps(document | change))
    with pytest.raises(InputError, match=rf"training\.json: {problem}.*is damaged: remove"):
        run(tmp_path)


def test_another_seed_is_refused(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    other = Checkpoints(tmp_path / "checkpoints", identity={"seed": 1})
    with pytest.raises(InputError, match="seed: is 0, this run has 1"):
        other.latest()
