import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale import artefacts
from ngscale.cli import app

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_list_says_what_is_embedded_built_and_buildable(own_cache: Path) -> None:
    (own_cache / "tokenizers/tekken").mkdir(parents=True)
    result = RUNNER.invoke(app, ["corpora", "list", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    states = {item["name"]: item["state"] for item in document["artefacts"]}
    assert states["emma"] == states["bpe-4096"] == "embedded"
    assert states["tekken"] == "built"
    assert states["kernel-code"] == states["english"] == states["bibles"] == "not built"
    assert "persuasion" not in states, "a part of `english`, not built by itself"
    assert all(item["licence"] and item["num_bytes"] > 0 for item in document["artefacts"])
    lines = RUNNER.invoke(app, ["corpora", "list"]).stdout.splitlines()
    assert lines[0].startswith("4 embedded, 1 built, 4 not built")


def test_building_runs_the_recipe_into_the_cache_and_only_once(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "corpora"
    (root / "recipes").mkdir(parents=True)
    (root / "manifest.toml").write_text(
        '[[artefact]]\nname = "tiny"\nkind = "corpus"\nbytes = 1\nlicence = "L"\nsource = "S"\n'
        'recipe = "python corpora/recipes/tiny.py --out out/tiny"\ncommitted = false\n'
    )
    (root / "recipes/tiny.py").write_text(
        "import sys, pathlib; print('told on stdout'); out = pathlib.Path(sys.argv[2]); "
        "out.mkdir(); (out / 'a.txt').write_text('text')"
    )
    monkeypatch.setattr(artefacts, "embedded_dir", lambda: root)
    for _ in range(2):
        result = RUNNER.invoke(app, ["corpora", "build", "tiny"])
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"{own_cache / 'corpora/tiny'}\n"
    assert (
        RUNNER.invoke(app, ["corpora", "build", "tiny", "--out", str(tmp_path / "o")]).exit_code
        == 0
    )
    assert (tmp_path / "o/a.txt").read_text() == "text"
    (root / "recipes/tiny.py").write_text("raise SystemExit(5)")
    result = RUNNER.invoke(app, ["corpora", "build", "tiny", "--out", str(tmp_path / "p")])
    assert result.exit_code == 5


def test_an_unknown_name_is_a_usage_error_that_lists_the_known(own_cache: Path) -> None:
    result = RUNNER.invoke(app, ["corpora", "build", "nope"])
    assert result.exit_code == 2
    assert "known: smollm2-135m, kernel-code, english, bibles, tekken" in result.stderr


def test_a_recipe_without_network_ends_with_code_5(tmp_path: Path) -> None:
    """pip finds nothing where it may not look; its failure is a network error of one line."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment |= {"PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "ngscale", "corpora", "build", "tekken"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 5, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.stdout == ""
