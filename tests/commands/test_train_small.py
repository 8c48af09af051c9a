"""``ngscale train-small`` from the outside: answers, refusals, files, missing torch."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ngscale.architectures import with_keys
from ngscale.cli import app
from ngscale.design import decoder_config
from ngscale.train_small.config import DEFAULT_DESIGN
from tests.model.small import DESIGN, PLAIN
from tests.one_thread import one_thread

__all__ = ["one_thread"]


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A design of the embedded tokenizer whose steps take milliseconds."""
    path = tmp_path / "narrow" / "config.json"
    path.parent.mkdir()
    keys = {"hidden_size": 32, "num_hidden_layers": 2, "head_dim": 8, "moe_intermediate_size": 16}
    narrow = with_keys(DEFAULT_DESIGN.model, keys)
    path.write_text(json.dumps(decoder_config(replace(DEFAULT_DESIGN, model=narrow))))
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train-small", *arguments])


def test_a_tiny_run_says_smoke_test_and_writes_everything(tmp_path: Path, target: str) -> None:
    out = tmp_path / "out"
    result = run(target, "--tokens", "1024", "--seeds", "1", "--json", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["schema_version"], document["verb"]) == (1, "train-small")
    assert document["answer"].startswith("Smoke test, cannot conclude (fewer than 3 seeds (1); ")
    assert {item["verdict"] for item in document["comparisons"]} == {"undecided"}
    totals = [arm["total_parameters"] for arm in document["arms"]]
    assert totals[1] == pytest.approx(totals[0], rel=0.01)
    record = json.loads((out / "record.json").read_bytes())
    del document["environment"]
    assert record == document
    assert (out / "README.md").read_text().startswith("Smoke test, cannot conclude")
    assert (out / "figures" / "losses.png").is_file()
    assert sorted(path.name for path in (out / "runs" / "design-seed0").iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "run.json",
    ]
    assert "plan: 5 arms x 1 seeds x 1,024 tokens" in result.stderr
    assert "iB at the peak" in result.stderr
    assert "tokens/s" in result.stderr
    assert "Tokens/s: design " in (out / "README.md").read_text()
    environment = json.loads((out / "environment.json").read_bytes())
    assert set(environment["tokens_per_s"]) == {arm["name"] for arm in document["arms"]}


def test_a_dry_run_stops_at_the_plan(tmp_path: Path, target: str) -> None:
    out = tmp_path / "out"
    options = ("--tokens", "2048", "--arm", "ideal-hash", "--json", "--out", str(out))
    result = run(target, "--dry-run", *options)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["answer"].startswith("plan: 6 arms x 3 seeds x 2,048 tokens (2 steps, ")
    assert [arm["arm"] for arm in document["arms"]][-1] == "ideal-hash"
    assert min(arm["memory_bytes"] for arm in document["arms"]) > 0
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["deepseek-v4.1-flash"], 3, "cannot be shrunk: "),
        (["--seeds", "0"], 2, "--seeds 0: takes a number from 1 to 1,000, or auto"),
        (["--seeds", 5000 * "9"], 2, "takes a number from 1 to 1,000, or auto"),
        (["--margin", "nan"], 2, "--margin nan: takes a positive number of nats"),
        (["--arm", "better"], 2, "--arm better: known are capacity-1, unigram-tables, "),
        (["nowhere"], 3, "nowhere: no such file"),
        (["--device", "tpu"], 2, "--device tpu: takes auto, cpu, cuda"),
        (["--schedule", "linear"], 2, "--schedule linear: takes wsd, cosine"),
        (["--compile", "--device", "cpu"], 2, "--compile: is for --device cuda"),
        (["--tokens", "5"], 2, "--tokens 5: one step takes 1024"),
        (["--tokenizer", "bpe-32768", "--tokens", "1024"], 3, "the corpus has 32768 ids"),
    ],
)
def test_refusals_are_one_line(arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert result.stdout == ""


def test_a_design_without_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(decoder_config(PLAIN)))
    result = run(str(path))
    assert result.exit_code == 2
    assert "no n-gram tables" in result.stderr


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_a_missing_package_names_the_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "sys.argv = ['ngscale', 'train-small', '--tokens', '1024']\n"
        "from ngscale.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 8
    expected = f"error: {package} is not installed; run: pip install 'ngscale[torch]'"
    assert done.stderr.strip() == expected
    assert done.stdout == ""


def test_bad_records_are_refused_or_left_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"some text \xff")
    for policy, said in (("error", "--on-bad-record"), ("skip", "corpus is empty")):
        result = run("--corpus", str(broken), "--on-bad-record", policy)
        assert result.exit_code == 3
        assert said in result.stderr


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """Arguments of a run of 5 arms x 24 steps in seconds."""
    (tmp_path / "config.json").write_text(json.dumps(decoder_config(DESIGN)))
    ids = np.random.default_rng(0).integers(1, 64, 60_000).astype(np.uint16)
    ids.tofile(tmp_path / "ids.bin")
    return [
        str(tmp_path / "config.json"),
        *("--corpus", str(tmp_path / "ids.bin"), "--tokens", str(24 * 1024)),
        *("--seeds", "1", "--checkpoint-every", "3", "--device", "cpu"),
    ]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_ctrl_c_exits_130_and_the_same_command_resumes(tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "cut"
    process = subprocess.Popen(
        [sys.executable, "-m", "ngscale", "train-small", *tiny, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ONE_THREAD,
    )
    checkpoints = out / "runs" / "design-seed0" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stdout == b""
    assert stderr.decode().splitlines()[-1] == "interrupted"
    assert list(checkpoints.glob("step-*"))
    assert not (out / "record.json").exists()

    whole = run(*tiny, "--out", str(tmp_path / "whole"))
    resumed = run(*tiny, "--out", str(out))
    assert whole.exit_code == resumed.exit_code == 0
    for name in ("record.json", "runs/design-seed0/model.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not checkpoints.exists()


@pytest.mark.slow
def test_torchrun_trains_on_two_ranks_and_answers_once(tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "ngscale", "train-small"),
            *(*tiny, "--json", "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["runs"]
    alone = subprocess.run(
        [sys.executable, "-m", "ngscale", "train-small", *tiny, "--json"],
        capture_output=True,
        text=True,
        check=True,
        env=ONE_THREAD,  # more threads add up in another order, and a router's tie may fall apart
    )
    for two, one in zip(found, json.loads(alone.stdout)["runs"], strict=True):
        assert two["val_loss_nats"] == pytest.approx(one["val_loss_nats"], rel=1e-7)
    assert done.stderr.count("design, seed 0: ") == 1


def test_what_does_not_fit_in_memory_exits_6(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ngscale.train_small import memory

    monkeypatch.setattr(memory, "free_bytes", lambda _: 2**17)
    result = run(*tiny)
    assert result.exit_code == 6
    assert "arm design on cpu: needs at least" in result.stderr.splitlines()[-1]
