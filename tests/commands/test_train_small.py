"""``ngscale train-small`` from the outside: answers, refusals, files, missing torch."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from ngscale.cli import app
from ngscale.design import decoder_config
from tests.model.small import PLAIN


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A busy neighbour stalls two threads that wait for each other, and not one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["train-small", *arguments])


def test_a_tiny_run_says_smoke_test_and_writes_everything(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("--tokens", "1024", "--seeds", "1", "--json", "--out", str(out))
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
    assert "plan: 3 arms x 1 seeds x 1,024 tokens" in result.stderr
    assert "tokens/s" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["longcat-flash-lite"], 2, "longcat-flash-lite: is of model_type longcat_flash_ngram"),
        (["nowhere"], 3, "nowhere: no such file"),
        (["--device", "tpu"], 2, "--device tpu: takes auto, cpu, cuda"),
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
