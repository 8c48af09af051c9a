"""Every option of every verb is given what nobody means by it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_group

from ngscale.cli import app
from tests.reliability.inputs import SHORT_RUNS, filled
from tests.reliability.program import Program

ODD = {
    "empty": "",
    "negative": "-1",
    "not a number": "nan",
    "beyond 64 bits, and beyond names of files": 400 * "9",
    "beyond Python's integers": 5000 * "9",
    "not ASCII": "\u00e9\u202e",
    "a comma": ",",
    "a device": "/dev/null",
}
DOCUMENTED = (0, 2, 3, 4, 5, 6, 7, 8, 9)
OPTIONS = [
    (verb, max(param.opts, key=len))
    for verb in SHORT_RUNS
    for param in get_group(app).commands[verb].params
    if param.param_type_name == "option" and not getattr(param, "is_flag", False)
]
QUICK = ("audit", "ids")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Program]:
    """Without a network."""
    home, cache = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("cache")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NGSCALE_CACHE": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    with Program(checkout, tmp_path_factory.mktemp("runs"), environ) as running:
        yield running


def found_wrong(program: Program, argv: list[str], directory: Path) -> str:
    """Nothing, or how a run ended otherwise than with an answer or one line of error."""
    done = program.run(*argv, cwd=directory)
    errors = [line for line in done.err.splitlines() if line.lower().startswith("error: ")]
    answered = done.code in (0, 7, 9)
    as_promised = (
        done.code in DOCUMENTED
        and "Traceback" not in done.err
        and (answered or (len(errors) == 1 and done.err.splitlines()[-1] == errors[0]))
    )
    return "" if as_promised else f"{argv[-2]} {argv[-1][:40]!r}: {done.code} {done.err[-300:]}"


@pytest.mark.parametrize("verb", QUICK)
def test_an_odd_value_is_taken_or_refused_in_one_line(
    verb: str, program: Program, files: Path, tmp_path: Path
) -> None:
    """One value for each option."""
    options = [option for owner, option in OPTIONS if owner == verb]
    assert options
    values = list(ODD.values())
    runs = [(option, values[at % len(values)]) for at, option in enumerate(options)]
    argv = [verb, *filled(SHORT_RUNS[verb], files)]
    assert [w for run in runs if (w := found_wrong(program, [*argv, *run], tmp_path))] == []


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_every_odd_value_is_taken_or_refused_in_one_line(
    verb: str, option: str, program: Program, files: Path, tmp_path: Path
) -> None:
    argv = [verb, *filled(SHORT_RUNS[verb], files), option]
    wrong = [w for value in ODD.values() if (w := found_wrong(program, [*argv, value], tmp_path))]
    assert wrong == []
