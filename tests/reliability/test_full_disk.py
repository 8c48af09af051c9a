"""A full disk is exit 6 and one line; what was there is as it was, and the same command goes on."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.full_disk_driver import MAKES, ROOM, WITH_TORCH

NAMESPACE = ("unshare", "-rm")
ANOTHER_FILE = {"report", "command"}
"""Several files, of which some are the new ones already: each is whole."""
RESUMED = {"token cache", "id cache", "corpus", "tokenizer"}
"""What is finished of them stays, under a name that nothing takes for whole."""


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where a process may not mount a disk of its own."""
    if shutil.which(NAMESPACE[0]) is None:
        pytest.skip("needs unshare (util-linux) for a small disk of its own")
    directory = tmp_path_factory.mktemp("probe")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4096", "none", str(directory)]
    done = subprocess.run([*NAMESPACE, *mount], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no user and mount namespace here: {done.stderr.strip()}")


def seen(names: list[str], directory: Path, checkout: Path) -> dict[str, Any]:
    (directory / "disk").mkdir()
    done = subprocess.run(
        [
            *NAMESPACE,
            *(sys.executable, "-m", "tests.reliability.full_disk_driver"),
            *(str(directory / "disk"), ",".join(names)),
        ],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": f"{checkout}:{checkout / 'corpora/recipes'}",
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def plain(namespace: None, tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Any:
    return seen(list(MAKES), tmp_path_factory.mktemp("full"), checkout)


@pytest.fixture(scope="module")
def with_torch(namespace: None, tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Any:
    return seen(list(WITH_TORCH), tmp_path_factory.mktemp("full"), checkout)


def is_exit_6_and_nothing_is_lost(name: str, found: dict[str, Any]) -> None:
    assert found["whole"] == 0, "there is room for the first one"
    assert found["code"] == 6, found
    assert found["line"].startswith("error: ")
    assert "disk is full" in found["line"] or "No space left" in found["line"]
    assert "/disk" in found["line"], "names the place"
    assert found["lost"] == found["torn"] == found["temporary"] == []
    assert found["replaced"] == [] or name in ANOTHER_FILE
    assert "report/record.json" not in found["replaced"], "written last"
    assert found["partial"] == [] or name in RESUMED
    assert (found["again"], found["orphans"]) == (0, [])


@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("name", MAKES)
def test_an_artefact_on_a_full_disk(plain: Any, name: str, room: str) -> None:
    is_exit_6_and_nothing_is_lost(name, plain[name][room])


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("name", WITH_TORCH)
def test_an_artefact_of_training_on_a_full_disk(with_torch: Any, name: str, room: str) -> None:
    is_exit_6_and_nothing_is_lost(name, with_torch[name][room])


def test_no_file_is_mapped_to_be_written(checkout: Path) -> None:
    """A store into a page that a full disk cannot back is SIGBUS; a write is an error."""
    maps = 0
    for path in sorted((checkout / "ngscale").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            modes = [key.value for key in node.keywords if key.arg in ("mode", "mmap_mode")]
            if called.endswith("memmap"):
                modes = modes or node.args[2:3]
            elif not (called.endswith("np.load") and modes):
                assert not called.endswith("mmap.mmap"), path
                continue
            assert [ast.literal_eval(mode) for mode in modes] == ["r"], f"{path}: {called}"
            maps += 1
    assert maps >= 6
