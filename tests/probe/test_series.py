"""A training run's kept checkpoints, probed in the order of steps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.design import Design, decoder_config
from ngscale.train_small.cells import Cell, CellStore
from ngscale.train_small.config import Arm
from ngscale.train_small.loop import train
from ngscale.train_small.run import make_blocks
from ngscale.train_small.trainer import Trainer
from ngscale.train_small.usage import Use
from tests.model.small import DESIGN, PLAIN
from tests.probe.models import save_tokenizer
from tests.train_small.small import TRAINING, request

STEPS = 6


def trained(
    out: Path, design: Design = DESIGN, *, finished: bool = True, keep: bool = True
) -> Path:
    """A run of six steps that keeps its checkpoints, as train-small writes it."""
    arm = Arm(name="design", design=design)
    store = CellStore(out, checkpoint_every=2, keep_checkpoints=9, keep_finished=keep)
    tokens = STEPS * TRAINING.tokens_per_step
    inputs = {"training": asdict(TRAINING), "seed": 0, "tokens": tokens}
    identity = {**inputs, "design": decoder_config(design)}
    trainer = Trainer(
        arm,
        make_blocks(request()),
        seed=0,
        num_steps=STEPS,
        training=TRAINING,
        device=torch.device("cpu"),
    )
    result = train(trainer, checkpoints=store.checkpoints(arm, 0, identity))
    trainer.finish()
    if finished:
        cell = Cell(result, Use(tables=(), layers=(), tokens_per_s=1.0))
        store.save(arm, 0, identity, trainer.decoder, cell)
    return out / "runs" / "design-seed0"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    return trained(tmp_path_factory.mktemp("out"))


@pytest.fixture
def run(shared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shared, tmp_path / "runs" / shared.name)


def invoke(run: Path, tmp_path: Path, *argv: object) -> Any:
    save_tokenizer(tmp_path, vocab_size=DESIGN.model.vocab_size)
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(33 + (i * i + 3 * i) % 60) for i in range(900)))
    given = (run, "--series", "--corpus", text, "--tokenizer", tmp_path, "--tokens", 40, *argv)
    return CliRunner().invoke(app, ["probe", *map(str, given)])


def document(run: Path, tmp_path: Path, *argv: object) -> dict[str, Any]:
    result = invoke(run, tmp_path, *argv, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_kept_checkpoint_is_a_point_and_the_model_is_the_last(
    shared: Path, tmp_path: Path
) -> None:
    found = document(shared, tmp_path, "--windows", 3)
    series = found["series"]
    assert [point["step"] for point in series] == [2, 4, 6]
    assert [point["tokens"] for point in series] == [128, 256, 384]
    assert [point["is_finished"] for point in series] == [False, False, True]
    for point in series:
        assert point["closure"]["max_relative_error"] <= 1e-6
        for key in ("attention_ratio", "mlp_ratio", "embedding_share", "embedding_norm"):
            low, high = point[key]["interval"]
            assert low <= high
        low, high = point["loss"]["interval"]
        assert low <= point["loss"]["mean_nats"] <= high
    assert len({point["loss"]["mean_nats"] for point in series}) == 3


def test_a_point_is_what_probing_that_model_gives(shared: Path, tmp_path: Path) -> None:
    series = document(shared, tmp_path)["series"]
    argv = ("--corpus", tmp_path / "text.txt", "--tokenizer", tmp_path, "--tokens", 40, "--json")
    result = CliRunner().invoke(app, ["probe", str(shared), *map(str, argv)])
    alone = json.loads(result.stdout)
    assert series[-1]["attention_ratio"]["median"] == alone["layers"][0]["ratio"]["median"]
    assert series[-1]["mlp_ratio"]["median"] == alone["layers"][1]["ratio"]["median"]
    share = alone["embedding_share"][0]["share"]["median"]
    assert series[-1]["embedding_share"]["median"] == share
    loss = alone["advice"]["amplifications"][0]["loss_nats"]
    assert series[-1]["loss"]["mean_nats"] == loss


def test_a_run_that_goes_on_has_its_checkpoints_alone(tmp_path: Path) -> None:
    found = document(trained(tmp_path / "out", finished=False), tmp_path)
    assert [point["step"] for point in found["series"]] == [2, 4]
    assert found["series"][0]["loss"]["interval"] is None


def test_two_runs_stand_in_one_figure(shared: Path, tmp_path: Path) -> None:
    (spec,) = DESIGN.ngrams
    amplified = replace(DESIGN, ngrams=(replace(spec, amplification="sqrt_d"),))
    other = trained(tmp_path / "with", amplified)
    out = tmp_path / "report"
    found = document(shared, tmp_path, "--against", other, "--out", out)
    assert found["against"]["model"]["amplification"] == "sqrt_d"
    first, second = found["series"][0], found["against"]["series"][0]
    ratio = second["embedding_norm"]["median"] / first["embedding_norm"]["median"]
    assert ratio == pytest.approx(32**0.5, rel=0.2)  # two steps from equal weights
    assert (out / "figures" / "series.svg").is_file()
    assert (out / "data" / "series_against.csv").is_file()
    readme = (out / "README.md").read_text()
    assert readme.startswith(found["answer"])
    assert "Against: design-seed0 (amplification: sqrt(D))" in found["answer"]


def test_a_design_without_tables_has_a_series_too(tmp_path: Path) -> None:
    found = document(trained(tmp_path / "out", PLAIN), tmp_path)
    assert found["inputs"]["model"]["num_tables"] == 0


def check(result: Any, *parts: str, code: int = 3) -> None:
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    for part in parts:
        assert part in last


def no_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def half_a_checkpoint(run: Path) -> None:
    for shard in (run / "checkpoints" / "step-00000004").glob("*.safetensors"):
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def no_shard(run: Path) -> None:
    for shard in (run / "checkpoints" / "step-00000004").glob("*.safetensors"):
        shard.unlink()


def broken_document(run: Path) -> None:
    (run / "checkpoints" / "step-00000002" / "training.json").write_text("{")


def another_design(run: Path) -> None:
    path = run / "checkpoints" / "step-00000004" / "training.json"
    changed = json.loads(path.read_text())
    changed["identity"]["design"]["rms_norm_eps"] = 1e-3
    path.write_text(json.dumps(changed))


def another_model(run: Path) -> None:
    for path in run.glob("checkpoints/*/training.json"):
        changed = json.loads(path.read_text())
        changed["identity"]["design"] = decoder_config(PLAIN)
        path.write_text(json.dumps(changed))
    (run / "run.json").unlink()


def no_training(run: Path) -> None:
    for path in run.glob("checkpoints/*/training.json"):
        changed = json.loads(path.read_text())
        del changed["identity"]["training"]
        path.write_text(json.dumps(changed))
    (run / "run.json").unlink()


@pytest.mark.parametrize(
    ("harm", "parts"),
    [
        (no_checkpoints, ("holds no checkpoints/step-*", "--keep-checkpoints N")),
        (half_a_checkpoint, ("step-00000004", "the checkpoint is damaged")),
        (no_shard, ("step-00000004", "the checkpoint is damaged")),
        (broken_document, ("step-00000002/training.json", "the checkpoint is damaged")),
        (another_design, ("step-00000004/training.json", "design: is another", "not one run")),
        (another_model, ("step-00000002", "embed_tokens.weight: is missing")),
        (no_training, ("step-00000002/training.json", "training: must be an object")),
    ],
)
def test_bad_runs_are_refused_in_one_line(
    run: Path, tmp_path: Path, harm: Callable[[Path], None], parts: tuple[str, ...]
) -> None:
    harm(run)
    check(invoke(run, tmp_path), *parts)


def test_series_takes_no_tables_and_no_arms(shared: Path, tmp_path: Path) -> None:
    for other in (("--tables",), ("--emit-arms", tmp_path)):
        check(invoke(shared, tmp_path, *other), "--series", other[0], code=2)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    check(invoke(tmp_path / "none", tmp_path), "no such directory", "run of train-small")


def test_checkpoints_go_with_the_run_unless_they_are_asked_for(tmp_path: Path) -> None:
    assert not (trained(tmp_path / "gone", keep=False) / "checkpoints").exists()
    assert (trained(tmp_path / "kept") / "checkpoints").is_dir()
