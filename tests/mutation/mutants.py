"""300 small changes of the modules whose numbers nobody checks by eye, and which a test notices.

``python -m tests.mutation.mutants`` (``make mutants``): draws them by SEED, runs each in a process
forked from one that has imported the libraries, with the tests of its module, the quickest first,
up to the first that fails: with few examples, and what survives with as many as ever. Kernels run
as Python. Verdicts are kept as they come, so a run that was stopped goes on; ``--again`` runs
survivors anew, once there are more tests.
"""

import argparse
import ast
import csv
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from tests.mutation.operators import apply, changes

SEED = 11
NUM_MUTANTS = 300
ROOT = Path(__file__).parent.parent.parent
VERDICTS = Path(__file__).parent / "verdicts.csv"
FIELDS = ("module", "line", "column", "operator", "before", "after", "verdict", "seconds")
KILLED = ("killed", "timeout")

MAX_CPU_FACTOR, MAX_CPU_EXTRA_S = 4, 10
"""A mutant that takes more processor time than so many times its tests is one that hangs."""
MAX_WALL_S = 3600
"""Of one mutant: the machine may be busy, so this is no verdict."""


class Target(NamedTuple):
    """What is mutated, and the tests that are to notice it."""

    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()
    """Empty: the whole module."""
    without: str = ""
    """Tests that are left out, as pytest's -k names them: they take longer than all others."""


_TWIN = "hashing/test_torch_twin.py"
_LARGEST = "test_the_largest_ids_do_not_overflow"
_SCHEMES = ("hashing/test_schemes.py", "hashing/test_definition.py", "hashing/test_longcat.py")
TARGETS = {
    "ngscale.hashing.byte_hashes": Target(_SCHEMES[:1], without="uniform"),
    "ngscale.hashing.definition": Target(
        (*_SCHEMES[1:], f"{_TWIN}::test_reads_and_averages_are_those_of_the_definition")
    ),
    "ngscale.hashing.longcat": Target(_SCHEMES, without="uniform"),
    "ngscale.hashing.multiply_xor": Target((*_SCHEMES[:2], f"{_TWIN}::{_LARGEST}")),
    "ngscale.hashing.registry": Target(_SCHEMES[:2], without="uniform"),
    "ngscale.hashing.scheme": Target(_SCHEMES[:1], without="uniform"),
    "ngscale.hashing.stream": Target(_SCHEMES[1:]),
    "ngscale.hashing.torch_twin": Target((_TWIN,), without="graph_break or operations_do_not"),
    "ngscale.hashing.wrapping": Target((*_SCHEMES[:2], f"{_TWIN}::{_LARGEST}")),
    "ngscale.resonance": Target(("test_resonance.py",)),
    "ngscale.params": Target(("test_params.py",)),
    "ngscale.collisions.metrics": Target(("collisions/test_metrics.py",)),
    "ngscale.conclusive": Target(("train_small/test_comparison.py",)),
    "ngscale.train_small.comparison": Target(("train_small/test_comparison.py",)),
    "ngscale.probe.numbers": Target(("probe/test_numbers.py",)),
    "ngscale.probe.autopsy": Target(("probe/test_autopsy.py",), ("_at_init", "_spearman")),
    "ngscale.decode.measure": Target(("decode/test_measure.py",), ("ratio_interval",)),
    "ngscale.decode.reject_run": Target(
        ("decode/test_rejection.py",), ("auc", "auc_interval", "reached", "_stands", "_places")
    ),
    "ngscale.budget.allocation": Target(
        ("budget/test_allocation.py",),
        ("_quadratic", "_bootstrap", "_convex_hull", "_turn", "inside", "_interval"),
    ),
    "reports.lattice_score": Target(
        ("test_lattice_score_report.py",), ("correlations", "_interval", "_spearman")
    ),
    "reports.robustness_report": Target(
        ("test_robustness_report.py",), ("interval", "sampled", "_ends"), without="excess"
    ),
}


class Mutant(NamedTuple):
    """One change by its place."""

    module: str
    number: int
    """Of the changes of its module."""
    line: int
    column: int
    operator: str
    before: str
    after: str

    @property
    def key(self) -> tuple[str, ...]:
        """As the table of verdicts names it."""
        return tuple(map(str, (self.module, *self[2:])))


def path_of(module: str) -> Path:
    """Where the text of ``module`` stands."""
    return ROOT / f"{module.replace('.', '/')}.py"


def parsed(module: str) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(path_of(module).read_text("utf-8"))


def all_mutants() -> list[Mutant]:
    """Every change of every target, in one order."""
    found = []
    for module, target in TARGETS.items():
        for number, (node, operator, instead) in enumerate(
            changes(parsed(module), target.functions)
        ):
            place: Any = node
            before, after = ast.unparse(node), ast.unparse(instead)
            found.append(
                Mutant(module, number, place.lineno, place.col_offset, operator, before, after)
            )
    return found


def sample() -> list[Mutant]:
    """The drawn ones, by module and line."""
    everything = all_mutants()
    chosen = random.Random(SEED).sample(range(len(everything)), NUM_MUTANTS)
    return [everything[at] for at in sorted(chosen)]


class _Mutated(importlib.abc.MetaPathFinder):
    """Imports one module from a changed syntax tree."""

    def __init__(self, mutant: Mutant) -> None:
        self.module, self.path = mutant.module, path_of(mutant.module)
        tree = parsed(mutant.module)
        change = changes(tree, TARGETS[mutant.module].functions)[mutant.number]
        self.code = compile(apply(tree, change), str(self.path), "exec")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        loader = _Loader(fullname, str(self.path))
        loader.code = self.code
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class _Order:
    """A pytest plugin: the quickest tests first, and how long each took."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.before, self.seconds = seconds, dict[str, float]()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self.before.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        took = self.seconds.get(report.nodeid, 0.0) + report.duration
        self.seconds[report.nodeid] = took


class _Work(NamedTuple):
    """The tests of a module by one profile of Hypothesis."""

    module: str
    profile: str
    out: Path

    @property
    def log(self) -> Path:
        """What pytest wrote."""
        return self.out.with_suffix(".log")

    def end(self) -> str:
        """Of the log."""
        return "\n".join(self.log.read_text("utf-8").splitlines()[-15:])


def _child(finder: _Mutated | None, work: _Work, seconds: Mapping[str, float]) -> int:
    """Runs the tests of a module; pytest's exit code."""
    import pytest

    if finder is not None:
        sys.meta_path.insert(0, finder)
    plugin = _Order(seconds)
    target = TARGETS[work.module]
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    # Hypothesis is imported before pytest here.
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments += ["-k", f"not ({target.without})"] * bool(target.without)
    arguments += [f"--hypothesis-profile={work.profile}"]
    arguments += [f"tests/{name}" for name in target.tests]
    code = int(pytest.main(arguments, plugins=[plugin]))
    if finder is None:
        work.out.write_text(json.dumps([plugin.seconds, sorted(sys.modules)]), "utf-8")
    return code


def _fork(
    finder: _Mutated | None, work: _Work, seconds: Mapping[str, float], max_cpu_s: float
) -> tuple[int, float]:
    """Exit code, minus the signal's number if one ended it, and processor seconds."""
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(max_cpu_s), int(max_cpu_s) + 5))
        with work.log.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        code = 3
        try:
            code = _child(finder, work, seconds)
        except BaseException:
            traceback.print_exc()
        finally:  # the child must not go on as the parent
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if time.monotonic() - started > MAX_WALL_S:
            os.killpg(pid, signal.SIGTERM)
        time.sleep(0.05)


class _Baselines:
    """What the tests of every module take without a change, found when first asked for."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.known: dict[_Work, tuple[dict[str, float], float]] = {}

    def run(self, mutant: Mutant, profile: str) -> tuple[str, float]:
        """The verdict by one profile, and processor seconds.

        Raises:
            RuntimeError: the tests fail without the change, or there are none.
        """
        work = _Work(mutant.module, profile, self.scratch / "seconds.json")
        if work not in self.known:
            code, took = _fork(None, work, {}, 3600)
            if code:
                raise RuntimeError(f"{work.module}: its tests fail unchanged\n{work.end()}")
            of_tests, imported = json.loads(work.out.read_text("utf-8"))
            self.known[work] = of_tests, took
            _import_libraries(imported)
        seconds, unchanged = self.known[work]
        limit = MAX_CPU_FACTOR * unchanged + MAX_CPU_EXTRA_S
        code, took = _fork(_Mutated(mutant), work, seconds, limit)
        if code in (3, 4, 5, -signal.SIGTERM):
            raise RuntimeError(f"{mutant}: no test ran, or none ended\n{work.end()}")
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "timeout", took
        return "killed" if code else "survived", took


def read_verdicts(path: Path = VERDICTS) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows by the mutant they are of."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {tuple(row[name] for name in FIELDS[:-2]): row for row in csv.DictReader(file)}


def _write(rows: Mapping[tuple[str, ...], Mapping[str, str]], drawn: Sequence[Mutant]) -> None:
    with VERDICTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[mutant.key] for mutant in drawn if mutant.key in rows)


def main() -> None:
    """Run what has no verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--again", action="store_true", help="run survivors anew")
    parser.add_argument("--only", default="", help="modules that begin so")
    options = parser.parse_args()
    _prepare()
    drawn, rows = sample(), read_verdicts()
    waiting = [
        mutant
        for mutant in drawn
        if mutant.module.startswith(options.only)
        and (
            mutant.key not in rows or (options.again and rows[mutant.key]["verdict"] == "survived")
        )
    ]
    with tempfile.TemporaryDirectory() as scratch:
        baselines = _Baselines(Path(scratch))
        for mutant in waiting:
            verdict, took = baselines.run(mutant, "quick")
            if verdict == "survived":
                verdict, took = baselines.run(mutant, "whole")
            rows[mutant.key] = dict(zip(FIELDS, (*mutant.key, verdict, f"{took:.1f}"), strict=True))
            _write(rows, drawn)
            print(f"{verdict:8} {took:6.1f} s", *mutant.key, flush=True)
    verdicts = [rows[mutant.key]["verdict"] for mutant in drawn if mutant.key in rows]
    killed = sum(verdict in KILLED for verdict in verdicts)
    print(f"{killed} of {len(verdicts)} killed, {killed / len(verdicts):.1%}")


def _import_libraries(names: Sequence[str]) -> None:
    """What a child would import anew for every mutant."""
    for name in names:
        if name.split(".")[0] not in ("ngscale", "reports", "tests", "__main__"):
            with suppress(Exception):
                importlib.import_module(name)


def _prepare() -> None:
    """One thread, kernels as Python, and the profiles of Hypothesis."""
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"}
    os.chdir(ROOT)
    import torch
    from hypothesis import HealthCheck, Phase, settings

    torch.set_num_threads(1)
    for name, max_examples in (("quick", 25), ("whole", 100)):
        settings.register_profile(
            name,
            max_examples=max_examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        )


if __name__ == "__main__":
    main()
