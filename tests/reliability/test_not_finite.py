"""NaN and infinity planted in what is read: one line that names file and key, and its code.

A loss and a gradient that turn NaN in training are planted in tests/train_small/test_loop.py.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.decode.table_head import TableHead
from ngscale.safetensors_header import WEIGHTS_NAME
from tests.commands.test_decode import small
from tests.one_thread import one_thread
from tests.plan.small import write_config, write_text
from tests.probe.models import edit_config

__all__ = ["one_thread"]

NAN, INFINITY = float("nan"), float("inf")
Planted = tuple[list[str], int, tuple[str, ...]]
"""A command, its exit code and what its one line must name."""


def config(text: str) -> Callable[[Path], Planted]:
    """A number of a config.json, as text: ``NaN``, ``1e999``."""

    def plant(directory: Path) -> Planted:
        path = Path(write_config(directory))
        planted = path.read_text().replace('"rope_theta": ', f'"rope_theta": {text}, "was": ')
        assert text in planted
        path.write_text(planted)
        return ["audit", str(path)], 3, (str(path), "rope_theta")

    return plant


def config_list(directory: Path) -> Planted:
    path = Path(write_config(directory))
    values = json.loads(path.read_text())
    values["ngscale"]["table_rows"] = [INFINITY, 3, 5, 7]
    path.write_text(json.dumps(values))
    return ["audit", str(path)], 3, (str(path), "table_rows: Infinity")


def checkpoint(directory: Path, name: str, value: float) -> Path:
    """One number of one tensor."""
    made = small(directory / "checkpoint")
    tensors = load_file(made / "model.safetensors")
    assert name in tensors, sorted(tensors)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, made / "model.safetensors")
    return made


def probed_weight(directory: Path) -> Planted:
    made = checkpoint(directory, "norm.weight", NAN)
    argv = ["probe", str(made), "--corpus", write_text(directory), "--tokens", "40"]
    return argv, 3, (str(made / WEIGHTS_NAME), "norm.weight: [")


def table_row(directory: Path) -> Planted:
    made = checkpoint(directory, "embed_tokens.tables.weight", INFINITY)
    return (
        ["probe", str(made), "--tables"],
        3,
        (str(made / WEIGHTS_NAME), "embed_tokens.tables.weight: ["),
    )


def decoded_weight(directory: Path) -> Planted:
    made = checkpoint(directory, "lm_head.weight", NAN)
    named = str(made / WEIGHTS_NAME), "lm_head.weight: ["
    return [*decode(made, directory), "--draft", "lookup"], 3, named


def head(directory: Path) -> Planted:
    made = small(directory / "checkpoint")
    tensors = {name: t.clone() for name, t in TableHead(16, 4096, 0).state_dict().items()}
    next(iter(tensors.values())).view(-1)[0] = NAN
    path = directory / "head.safetensors"
    save_file(tensors, path)
    argv = [*decode(made, directory), "--draft", "table", "--head", str(path)]
    return argv, 3, (str(path), "weight: [")


def decode(made: Path, directory: Path) -> list[str]:
    return [
        *("decode", str(made), "--corpus", write_text(directory), "--device", "cpu"),
        *("--sequences", "2", "--batch", "2", "--new-tokens", "4", "--prompt-tokens", "8"),
    ]


def kept_run(directory: Path) -> Planted:
    """A finished run of train-small whose loss somebody edited."""
    target, out = write_config(directory), directory / "out"
    argv = ["train-small", target, "--corpus", write_text(directory), "--tokens", "1024"]
    argv += ["--seeds", "1", "--device", "cpu", "--out", str(out)]
    path = out / "runs" / "design-seed0" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"inputs": {}, "result": {"val_loss_nats": NaN}}')
    return argv, 3, (str(path), "NaN is not a JSON number")


def record(directory: Path) -> Planted:
    """A record of train-small beside a curve."""
    (directory / "records").mkdir()
    path = directory / "records" / "record.json"
    path.write_text('{"schema_version": 1, "verb": "train-small", "runs": [{"val": Infinity}]}')
    argv = ["budget", "longcat-flash-lite", "--records", str(path.parent)]
    return argv, 3, (str(path), "val: Infinity")


def vectors(directory: Path) -> Planted:
    path = directory / "vectors.json"
    golden = json.loads((Path(__file__).parents[1] / "golden" / "vectors.json").read_text())
    golden["vectors"] = golden["vectors"][:1]
    golden["vectors"][0]["ids"][0][0] = NAN
    path.write_text(json.dumps(golden))
    return ["ids", "--check", str(path)], 3, (str(path), "ids: NaN")


def trace(directory: Path) -> Planted:
    path = directory / "rows.npy"
    np.save(path, np.full((64, 12), NAN))
    return ["cache", "longcat-flash-lite", "--trace", str(path)], 3, (str(path),)


def initialiser(directory: Path) -> Planted:
    """A number of a config.json that only a probe reads."""
    made = small(directory / "checkpoint")
    edit_config(made, initializer_range=NAN)
    return ["probe", str(made), "--tables"], 3, (str(made / "config.json"), "initializer_range")


PLACES: dict[str, Callable[[Path], Planted]] = {
    "config, NaN": config("NaN"),
    "config, -Infinity": config("-Infinity"),
    "config, 1e999": config("1e999"),
    "config, a list": config_list,
    "config, what a probe reads": initialiser,
    "weights that are probed": probed_weight,
    "weights that are decoded": decoded_weight,
    "a row of a table": table_row,
    "a draft head": head,
    "a kept run": kept_run,
    "a record": record,
    "test vectors": vectors,
    "a trace": trace,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_number_that_is_not_finite_is_refused_by_file_and_key(place: str, tmp_path: Path) -> None:
    argv, code, named = PLACES[place](tmp_path)
    done = CliRunner().invoke(app, [*argv, "--json"])
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == [last]
    for name in named:
        assert name in last


OPTIONS = {
    "collisions": ("--ratio {}:2", "--ratio 1:{}", "--around {}", "--hit-rate {}"),
    "budget longcat-flash-lite": ("--window-us {}", "--total {}", "--hbm {}"),
    "train-small": ("--hours {}", "--margin {}", "--proxy {}"),
    "plan longcat-flash-lite": ("--hours {}", "--total {}"),
    "decode": ("--temperature {}", "--top-p {}"),
    "cache longcat-flash-lite": (
        *("--sample {}", "--miss-ratio {}", "--tokens {}"),
        *("--tier nvme-pm9a3:latency={}", "--tier nvme-pm9a3:iops={}"),
    ),
}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("verb", "option"), [(verb, option) for verb, options in OPTIONS.items() for option in options]
)
def test_an_option_takes_no_number_that_is_not_finite(verb: str, option: str, value: str) -> None:
    done = CliRunner().invoke(app, [*verb.split(), *option.format(value).split()])
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert value in last or f"'{option.split()[0]}'" in last  # a range that it is out of
