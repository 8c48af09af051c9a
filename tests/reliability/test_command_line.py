"""Every verb under every condition of a shell, by two tables: what is run, and where.

`docs/cli.md` promises: stdout is the answer and nothing else, stderr the story, exit codes.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.inputs import SHORT_RUNS, filled
from tests.reliability.program import NETWORK, Done, Program
from tests.reliability.schemas import check

VERBS: dict[str, tuple[str, ...]] = {
    **SHORT_RUNS,
    "corpora list": (),
    "corpora build": ("tekken",),
}
"""A short run of every command."""
WITHOUT_JSON = ("corpora build",)
WITHOUT_REPORT = ("train-small", "plan", "corpora list", "corpora build")
"""Those whose run above writes none; of train-small and plan it is a dry one."""
OF_THE_CLOCK = ("decode", "train-small", "plan")
"""What they say holds times, which two runs do not share."""
_INK = re.compile(r"\x1b\[[0-9;]*m")
_COLOUR = re.compile(r"\x1b\[([0-9;]*;)?([349][0-9]|10[0-7])[0-9;]*m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """One verb, ready to be run."""

    verb: str
    program: Program
    files: Path
    plain: Callable[[str], Done]
    """The verb's run under no condition, done once."""

    def argv(self, *options: str, files: Path | None = None) -> list[str]:
        arguments = filled(VERBS[self.verb], files or self.files)
        return [*self.verb.split(), *arguments, *options]

    def run(self, *options: str, **where: Any) -> Done:
        return self.program.run(*self.argv(*options), **where)

    @property
    def environ(self) -> dict[str, str]:
        return self.program.environ

    def check_answer(self, done: Done) -> None:
        """Exit 0 and the same answer as under no condition."""
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
        if self.verb in OF_THE_CLOCK:
            assert done.out.strip()
        else:
            assert done.out == self.plain(self.verb).out


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Program]:
    """Runs start in a bare environment: a home and a cache of their own, no terminal, no network.

    The built tokenizer is a directory, which is all that a second build looks at.
    """
    home, built = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("cache")
    (built / "tokenizers" / "tekken").mkdir(parents=True)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NGSCALE_CACHE": str(built),
        "OMP_NUM_THREADS": "1",
    }
    scratch = tmp_path_factory.mktemp("runs")
    with Program(checkout, scratch, environ) as running:
        yield running


@pytest.fixture(scope="module")
def plain(program: Program, files: Path) -> Callable[[str], Done]:
    """The runs under no condition, each made when first asked for."""
    known: dict[str, Done] = {}

    def run(verb: str) -> Done:
        if verb not in known:
            shell = Shell(verb=verb, program=program, files=files, plain=run)
            known[verb] = program.run(*shell.argv())
        return known[verb]

    return run


def _help(shell: Shell, directory: Path) -> None:
    done = shell.program.run(*shell.verb.split(), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: ngscale {shell.verb} ")
    assert f"Example: ngscale {shell.verb}" in " ".join(done.out.split())


def _json_fits_its_schema(shell: Shell, directory: Path) -> None:
    done = shell.run("--json")
    if shell.verb in WITHOUT_JSON:
        assert (done.code, done.out) == (2, "")
        assert "--json" in done.err
        return
    assert done.code == 0, done.err
    assert done.out.startswith("{\n")
    assert done.out.endswith("\n}\n")
    document = json.loads(done.out, parse_constant=_no_constant)
    check(document)
    if shell.verb not in OF_THE_CLOCK:
        first = shell.plain(shell.verb).out.partition("\n")[0]
        assert document["answer"] == first


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} in JSON")


def _stdout_is_the_answer_alone(shell: Shell, directory: Path) -> None:
    """No line of the story is on stdout, and none of the answer on stderr."""
    done = shell.plain(shell.verb)
    assert done.code == 0, done.err
    assert done.out.strip()
    told = {line for line in done.err.splitlines() if line.strip()}
    assert not told & set(done.out.splitlines())
    assert done.out.partition("\n")[0] not in done.err


def _no_terminal(shell: Shell, directory: Path) -> None:
    """What is no terminal gets neither colours nor a bar, whatever TERM says."""
    environ = {**shell.environ, "TERM": "xterm-256color", "COLUMNS": "40"}
    done = shell.run(environ=environ)
    shell.check_answer(done)
    assert not re.search(r"[\x1b\r\x08]", done.out + done.err)


def _head(shell: Shell, directory: Path) -> None:
    done = shell.run(head=True)
    assert done.code == 0, done.err
    assert done.out.endswith("\n")
    assert "Traceback" not in done.err
    assert "BrokenPipe" not in done.err


def _closed_stdin(shell: Shell, directory: Path) -> None:
    shell.check_answer(shell.run(stdin=None))


def _no_colour(shell: Shell, directory: Path) -> None:
    """On a terminal, whose lines are narrower: the words are those of the answer."""
    environ = {**shell.environ, "NO_COLOR": "1", "TERM": "xterm-256color"}
    done = shell.run(terminal=True, environ=environ)
    assert done.code == 0, done.out
    assert not _COLOUR.search(done.out)
    if shell.verb not in OF_THE_CLOCK:
        answer = shell.plain(shell.verb).out.partition("\n")[0]
        assert answer in _INK.sub("", done.out.replace("\r\n", "\n"))


def _unknown_option(shell: Shell, directory: Path) -> None:
    done = shell.run("--no-such-option")
    assert (done.code, done.out) == (2, "")
    assert "--no-such-option" in done.err
    assert "Traceback" not in done.err


def _unicode_and_spaces(shell: Shell, directory: Path) -> None:
    """In the names of every file that is read, of the directory it is run in, and of --out."""
    place = directory / "a b  \u00fc\u0142\u6f22\u5b57\U0001f600 'q' \"d\" $HOME"
    shutil.copytree(shell.files, place)
    out = place / "\u00f6ut put"
    options = () if shell.verb in WITHOUT_REPORT else ("--out", str(out))
    argv = shell.argv(*options, files=place)
    done = shell.program.run(*argv, cwd=place)
    assert done.code == 0, done.err
    if options:
        record = json.loads((out / "record.json").read_text(encoding="utf-8"))
        assert (out / "README.md").read_text("utf-8").splitlines()[0] == record["answer"]
        assert json.loads((out / "environment.json").read_text("utf-8"))["argv"] == argv


def _read_only(shell: Shell, directory: Path) -> None:
    """An --out that cannot be written is exit 3 by name; to be run there needs no write."""
    locked = directory / "locked"
    locked.mkdir(mode=0o555)
    done = shell.run(cwd=locked)
    shell.check_answer(done)
    if shell.verb.startswith("corpora"):  # the list has no --out, a built one is not built again
        return
    out = str(locked / "out")
    options = ["--out", out]
    if shell.verb in ("train-small", "plan"):  # dry, they write nothing
        shell.check_answer(shell.run(*options))
    else:
        refused = shell.run(*options)
        assert (refused.code, refused.out) == (3, ""), refused.err
        last = refused.err.splitlines()[-1]
        assert last.startswith(f"error: {out}")
        assert ": Permission denied" in last
    assert not list(locked.iterdir())


def _home_unset(shell: Shell, directory: Path) -> None:
    environ = {key: value for key, value in shell.environ.items() if key != "HOME"}
    shell.check_answer(shell.run(environ=environ))


def _offline(shell: Shell, directory: Path) -> None:
    """No verb looks anything up: connections of every run are refused and told on stderr."""
    done = shell.plain(shell.verb)
    assert done.code == 0
    assert NETWORK not in done.err
    shell.check_answer(shell.run(environ={**shell.environ, "HF_HUB_OFFLINE": "1"}))


CONDITIONS: Mapping[str, Callable[[Shell, Path], None]] = {
    "--help": _help,
    "--json": _json_fits_its_schema,
    "stdout": _stdout_is_the_answer_alone,
    "| head": _head,
    "closed stdin": _closed_stdin,
    "NO_COLOR": _no_colour,
    "no terminal": _no_terminal,
    "unknown option": _unknown_option,
    "unicode and spaces": _unicode_and_spaces,
    "read-only directory": _read_only,
    "HOME unset": _home_unset,
    "offline": _offline,
}


QUICK = ("audit", "budget", "ids", "corpora list", "corpora build")
"""Verbs whose runs are milliseconds: all their conditions are met in CI."""
OF_ALL = ("--help", "--json", "unknown option")
"""Conditions that every verb meets in CI; the others are slow where a run takes seconds."""
CASES = [
    pytest.param(
        verb,
        condition,
        marks=[] if verb in QUICK or condition in OF_ALL else [pytest.mark.slow],
        id=f"{verb}-{condition}",
    )
    for verb in VERBS
    for condition in CONDITIONS
]


@pytest.mark.parametrize(("verb", "condition"), CASES)
def test_a_verb_in_a_shell(
    verb: str,
    condition: str,
    program: Program,
    files: Path,
    plain: Callable[[str], Done],
    tmp_path: Path,
) -> None:
    CONDITIONS[condition](Shell(verb=verb, program=program, files=files, plain=plain), tmp_path)


def test_no_command_is_left_out() -> None:
    from ngscale.cli import app

    names = {command.name for command in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands = group.typer_instance.registered_commands
        names |= {f"{group.name} {command.name}" for command in commands}
    assert names == set(VERBS)
