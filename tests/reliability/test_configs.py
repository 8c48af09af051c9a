"""Every verb refuses a malformed config.json in one line, by file and key, and at once."""

import contextlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale import presets
from ngscale.cli import app
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError
from ngscale.params import active_parameters, parameter_groups
from tests.malformed_configs import BAD_FILES, BAD_MODELS, BAD_TABLES, Config, mutated

VERBS: dict[str, Callable[[Path], list[str]]] = {
    "audit": lambda directory: ["audit", str(directory)],
    "budget": lambda directory: ["budget", str(directory)],
    "ids": lambda directory: ["ids", str(directory), "--tokens", "1,2,3"],
    "plan": lambda directory: ["plan", str(directory), "--no-corpus", "--out", f"{directory}/out"],
    "cache": lambda directory: ["cache", str(directory), "--corpus", f"{directory}/a.txt"],
    "collisions": lambda directory: [
        "collisions",
        str(directory),
        "--corpus",
        f"{directory}/a.txt",
    ],
    "recommend": lambda directory: ["collisions", str(directory), "--recommend", "--rows", "1M"],
    "train-small": lambda directory: ["train-small", str(directory), "--out", f"{directory}/out"],
    "probe": lambda directory: ["probe", str(directory)],
    "decode": lambda directory: ["decode", str(directory)],
}
LIGHT = ("audit", "budget", "ids", "plan")


def refused(verb: str, path: Path, problem: str) -> None:
    """Exit 3, one line of error with file and problem, nothing written; at once, where no torch
    has to be imported first.
    """
    start = time.process_time()
    done = CliRunner().invoke(app, VERBS[verb](path.parent))
    assert (done.exit_code, done.stdout) == (3, ""), (verb, done.output)
    *before, error = done.stderr.splitlines()
    assert error.startswith("error: "), (verb, error)
    assert verb not in LIGHT or not before
    assert not any("error" in row or "Traceback" in row for row in before), (verb, before)
    assert error.isprintable(), verb
    assert len(error) < 2000, verb
    assert path.parent.name in error, verb
    assert problem in error, (verb, error)
    assert not (path.parent / "out").exists(), verb
    assert verb not in LIGHT or time.process_time() - start < 2, verb


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the config is put, a text beside it."""
    (tmp_path / "a.txt").write_text("some words")
    return tmp_path / "config.json"


@pytest.mark.parametrize("name", BAD_FILES)
def test_bytes_that_are_no_config_are_refused(path: Path, name: str) -> None:
    data, problem = BAD_FILES[name]
    path.write_bytes(data)
    for verb in LIGHT:
        refused(verb, path, problem)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_a_config_refuses_one_that_is_cut_short(
    path: Path, verb: str
) -> None:
    data, problem = BAD_FILES["cut short"]
    path.write_bytes(data)
    refused(verb, path, problem)


@pytest.mark.parametrize("name", BAD_MODELS)
def test_what_describes_no_model_is_refused_by_its_key(path: Path, name: str) -> None:
    config, problem = BAD_MODELS[name]
    path.write_text(json.dumps(config))
    for verb in ("budget", "plan"):
        refused(verb, path, problem)


@pytest.mark.parametrize("number", range(len(BAD_TABLES)), ids=lambda i: BAD_TABLES[i][1][:40])
def test_what_describes_no_tables_is_refused_by_audit(path: Path, number: int) -> None:
    """``ids`` refuses the same ones (``test_ids_bad_input.py``), and more than one that an audit
    can do without: the id that stands for missing context.
    """
    config, problem = BAD_TABLES[number]
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    if problem == "fill is undecided":
        assert CliRunner().invoke(app, VERBS["audit"](path.parent)).exit_code == 0
    else:
        refused("audit", path, problem)


def test_malformed_configs_are_many() -> None:
    assert len(BAD_FILES) + len(BAD_MODELS) >= 60
    assert len(BAD_TABLES) >= 60


def _counted(design: Design) -> None:
    groups = parameter_groups(design)
    assert all(type(count) is int and count >= 0 for count in groups.values())
    assert active_parameters(design)
    json.dumps(design_config(design), allow_nan=False)


@pytest.mark.parametrize("name", presets.names())
def test_no_mutation_of_a_model_is_anything_but_counted_or_refused(path: Path, name: str) -> None:
    """60 of each of the published models, in one place or two."""
    rng = random.Random(name)
    config: Config = json.loads(presets.resolve(name).read_text())
    for _ in range(60):
        changed = mutated(rng, config)
        path.write_text(json.dumps(mutated(rng, changed) if rng.random() < 0.5 else changed))
        with contextlib.suppress(InputError):
            _counted(read_design(path))
