"""The command line as a whole: start-up, exit codes, one line per error."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale.cli import EXIT_CODES, app
from ngscale.commands import collisions
from ngscale.errors import NgscaleError

VERBS = (
    *("collisions", "audit", "budget", "ids", "probe"),
    *("train-small", "decode", "plan", "cache"),
)
HEAVY = ("numba", "torch", "datasets", "matplotlib", "transformers", "numpy")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ngscale", *argv], capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from ngscale.cli import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_costs_less_than_its_contract() -> None:
    """0.4 s; the least processor time of five, so that other work on the machine cannot fail it."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.4


def test_every_verb_is_listed_and_has_help_with_an_example() -> None:
    listing = run("--help").stdout
    for verb in VERBS:
        assert verb in listing
        assert f"Example: ngscale {verb}" in " ".join(run(verb, "--help").stdout.split())


def test_every_exit_code_of_an_error_class_is_documented() -> None:
    def classes(cls: type[NgscaleError]) -> list[type[NgscaleError]]:
        return [cls, *(found for child in cls.__subclasses__() for found in classes(child))]

    for cls in classes(NgscaleError):
        assert f" {cls.exit_code} " in EXIT_CODES


@pytest.mark.parametrize(
    ("argv", "code", "named"),
    [
        (["nope"], 2, "nope"),
        (["collisions", "--nope"], 2, "--nope"),
        (["collisions", "--orders", "0:2"], 2, "--orders 0:2"),
        (["collisions", "--ratio", "33:30"], 2, "--ratio 33:30"),
        (["collisions", "--ratio", "0.5:2"], 2, "--ratio 0.5:2"),
        (["collisions", "--ratio", "nan:2"], 2, "--ratio nan:2"),
        (["collisions", "--sizes", "12,x"], 2, "--sizes 12,x"),
        (["collisions", "--sizes", "0"], 3, "got 0"),
        (["collisions", "--sizes", str(2**31)], 3, str(2**31)),
        (["collisions", "--corpus", "/nonexistent/x.txt"], 3, "/nonexistent/x.txt"),
        (["collisions", "--tokenizer", "/nonexistent"], 3, "/nonexistent"),
        (["collisions", "/nonexistent/config.json"], 3, "/nonexistent"),
        (["budget", "/nonexistent/config.json"], 3, "/nonexistent"),
        (["ids", "/nonexistent/config.json", "--tokens", "1"], 3, "/nonexistent"),
        (["ids", "--check", "/nonexistent/vectors.json"], 3, "/nonexistent"),
        (["ids", "longcat-flash-lite", "--tokens", "1,x"], 2, "'x' is not a whole number"),
        (["probe", "/nonexistent"], 3, "/nonexistent"),
        (["train-small", "/nonexistent/config.json"], 3, "/nonexistent"),
        (["plan", "/nonexistent/config.json"], 3, "/nonexistent"),
    ],
)
def test_bad_input_is_one_line_of_error_and_the_documented_code(
    argv: list[str], code: int, named: str
) -> None:
    done = run(*argv)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    if code != 2:
        *story, last = done.stderr.strip().splitlines()
        assert last.startswith("error: ")
        assert not any(line.startswith("error") for line in story)


def test_an_unexpected_exception_is_one_line_and_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> tuple[int, int]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(collisions, "_orders", broken)
    result = CliRunner().invoke(app, ["collisions"])
    assert result.exit_code == 1
    assert result.stderr.strip() == "error: internal: RuntimeError: a bug (--debug shows where)"
    debugged = CliRunner().invoke(app, ["--debug", "collisions"])
    assert debugged.exit_code == 1
    assert debugged.stderr.startswith("Traceback ")
    assert debugged.stderr.endswith("RuntimeError: a bug\n")


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError(), 6, "out of memory")],
)
def test_interruption_and_memory_have_their_codes(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, said: str
) -> None:
    def stopped(text: str) -> tuple[int, int]:
        raise raised

    monkeypatch.setattr(collisions, "_orders", stopped)
    result = CliRunner().invoke(app, ["collisions"])
    assert result.exit_code == code
    assert said in result.stderr


def test_the_checkout_shim_is_the_same_program(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "cli.py", "--version"],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == run("--version").stdout


def test_a_closed_pipe_is_no_error_and_loses_no_report(tmp_path: Path) -> None:
    argv = f"collisions --sizes 1000003 --orders 2 --json --out {tmp_path}"
    done = subprocess.run(
        f"{sys.executable} -m ngscale {argv} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert (tmp_path / "record.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_a_full_disk_under_stdout_is_exit_6() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ngscale", "budget", "longcat-flash-lite", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (6, "error: the disk is full\n")
