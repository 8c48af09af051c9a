"""Equal inputs give equal bytes: record, data, figures and the body of the page, run after run.

The foot of the page and environment.json say when and where, and are left out.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.reliability.inputs import ANALYSES, OTHER_REPORTS, filled
from tests.reliability.program import Program

VERBS: Mapping[str, tuple[str, ...]] = {
    **ANALYSES,
    **OTHER_REPORTS,
    "collisions hit rate": (
        *("--corpus", "{text}", "--hit-rate", "4", "--sequences", "4"),
        *("--sequence-length", "512"),
    ),
    "cache sample": (*ANALYSES["cache"], "--sample", "0.5"),
}
OFTEN = ("collisions", "cache", "budget")
"""Those of every CI run; the others are slow."""
FOOT = {"report.html": b"<footer>", "README.md": b"\n---\n"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("home")
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with Program(checkout, tmp_path_factory.mktemp("runs"), environ) as running:
        yield running


def written(
    program: Program, files: Path, name: str, out: Path, *, threads: int
) -> dict[str, bytes]:
    """Every file of a report, without feet; each run has a cache of its own, so none is warm."""
    number = str(threads)
    environ = {
        **program.environ,
        "NGSCALE_CACHE": str(out.with_suffix(".cache")),
        "NUMBA_NUM_THREADS": number,
        "OMP_NUM_THREADS": number,
        "RAYON_NUM_THREADS": number,
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
    }
    argv = [name.split()[0], *filled(VERBS[name], files), "--out", str(out)]
    done = program.run(*argv, environ=environ, threads=threads)
    assert done.code == 0, done.err
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != "environment.json"
    }
    for page, foot in FOOT.items():
        body, mark, _ = found[page].rpartition(foot)
        assert mark
        found[page] = body
    return found


def same(program: Program, files: Path, name: str, directory: Path, threads: list[int]) -> None:
    runs = [
        written(program, files, name, directory / f"run{i}", threads=number)
        for i, number in enumerate(threads)
    ]
    assert {"record.json", "report.html", "README.md"} <= set(runs[0])
    assert any(path.endswith(".csv") for path in runs[0])
    for other in runs[1:]:
        assert set(other) == set(runs[0])
        assert [path for path in other if other[path] != runs[0][path]] == []


@pytest.mark.parametrize("name", OFTEN)
def test_one_and_two_threads_write_the_same_bytes(
    name: str, program: Program, files: Path, tmp_path: Path
) -> None:
    same(program, files, name, tmp_path, [1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", VERBS)
def test_five_runs_of_one_and_two_threads_write_the_same_bytes(
    name: str, program: Program, files: Path, tmp_path: Path
) -> None:
    same(program, files, name, tmp_path, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
