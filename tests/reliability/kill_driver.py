"""End a command at point after point, let it go on, and compare with one that was never ended.

A program of its own, so that every run is a fork of one process that has started no threads:

    python -m tests.reliability.kill_driver DIRECTORY HOW NUM_POINTS

A point is a file operation (open to write, rename, remove, ...) below the cache or --out, as
Python's audit hook tells it before it happens. NUM_POINTS of each phase, evenly spread, are met
in a directory of their own. HOW is SIGKILL, SIGTERM or SIGINT. Prints one JSON object.
"""

import contextlib
import hashlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import typer.testing

from ngscale import cli, report, token_cache, tokens
from ngscale.collisions import resumable

PHASES = {"tokens": "cache/tokens", "ngrams": "cache/ngrams", "sweep": "cache/sweeps", "out": "out"}
"""Of one command, by the directory that it writes: all that it keeps, then its report."""
LONGEST_S = 30.0
"""That a resumed run may take beyond ten times one that was never ended: more is a hang."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0}
"""Of the audit hook -> which argument is the path that is written."""


class Watch:
    """Writes down every point; at the chosen one it sends this process a signal."""

    def __init__(self, root: Path, chosen: tuple[str, int] | None, how: int) -> None:
        self.root, self.chosen, self.how = str(root), chosen, how
        self.met = dict.fromkeys(PHASES, 0)
        self.pid = os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & _WRITING:
                return
        elif event in _EVENTS:
            path = arguments[_EVENTS[event]]
        else:
            return
        if not isinstance(path, str | os.PathLike) or os.getpid() != self.pid:
            return
        place = os.fspath(path)
        for phase, below in PHASES.items():
            if place.startswith(f"{self.root}/{below}"):
                self.met[phase] += 1
                if (phase, self.met[phase]) == self.chosen:
                    os.kill(self.pid, self.how)


def command(root: Path) -> list[str]:
    """Tokenises, counts in several ranges, sweeps in several chunks, reports."""
    sizes = ["--orders", "2", "--ratio", "2:3.1", "--exhaustive", "--max-memory", "2M"]
    corpus = ["--corpus", str(root.parent / "text.jsonl"), "--tokenizer", "bpe-4096"]
    return ["collisions", *corpus, *sizes, "--out", str(root / "out")]


def forked(root: Path, chosen: tuple[str, int] | None, how: int) -> tuple[int, dict[str, int]]:
    """What a process of its own ended with, negative for a signal, and the points it met."""
    root.mkdir(exist_ok=True)
    told = root.parent / "met.json"
    child = os.fork()
    if not child:
        code = 1
        try:
            os.environ["NGSCALE_CACHE"] = str(root / "cache")
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            watch = Watch(root, chosen, how)
            sys.addaudithook(watch)
            with contextlib.redirect_stdout(sys.stderr):
                code = typer.testing.CliRunner().invoke(cli.app, command(root)).exit_code
            watch.chosen = None
            told.write_text(json.dumps(watch.met))
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(told.read_text()) if code == 0 else {}


def content(root: Path) -> dict[str, str]:
    """Hashes of all that is a function of the inputs."""
    left_out = ("environment.json", "report.html", "README.md", "lock")
    found = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in left_out and "hashes" not in path.parts
    }
    body = (root / "out" / "README.md").read_text().split("\n---\n")[0]
    return {**found, "README.md": hashlib.sha256(body.encode()).hexdigest()}


def orphans(root: Path) -> list[str]:
    """Temporaries that nobody will take over."""
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.name.startswith((".tmp-", "tmp")) or path.name.endswith(".partial")
    ]


def main() -> None:
    """Every chosen point in turn."""
    directory, how, num_points = Path(sys.argv[1]), signal.Signals[sys.argv[2]], int(sys.argv[3])
    words = np.random.default_rng(0).integers(0, 2_000, 40_000)
    documents = [" ".join(f"w{word}" for word in part) for part in np.split(words, 40)]
    lines = [json.dumps({"text": text}) + "\n" for text in documents]
    (directory / "text.jsonl").write_text("".join(lines))
    start = time.monotonic()
    code, met = forked(directory / "whole", None, how)
    whole_s = time.monotonic() - start
    assert code == 0
    expected = content(directory / "whole")
    found: dict[str, Any] = {"met": met, "cases": dict.fromkeys(PHASES, 0), "wrong": []}
    for phase, number in met.items():
        for place in sorted(
            {number * (2 * i + 1) // (2 * num_points) + 1 for i in range(num_points)}
        ):
            root = directory / f"{phase}-{place}"
            ended, _ = forked(root, (phase, place), how)
            start = time.monotonic()
            code, _ = forked(root, None, how)
            again = content(root) if code == 0 else {}
            case = {
                "point": f"{phase} {place}",
                "ended": ended,
                "resumed": code,
                "differing": sorted(
                    name for name in {*expected, *again} if expected.get(name) != again.get(name)
                ),
                "orphans": orphans(root),
                "hung": time.monotonic() - start > LONGEST_S + 10 * whole_s,
            }
            wanted = -signal.SIGKILL if how == signal.SIGKILL else 130
            good = {"ended": wanted, "resumed": 0, "differing": [], "orphans": [], "hung": False}
            found["cases"][phase] += 1
            if case != {"point": case["point"], **good}:
                found["wrong"].append(case)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    importlib.import_module("ngscale.commands.source")  # once, before the forks
    report.can_draw = lambda: False  # figures are a second each
    os.cpu_count = lambda: 2  # what --max-memory holds depends on the threads
    token_cache.CHECKPOINT_S = 0.0
    groups = tokens._groups
    setattr(tokens, "_groups", lambda pieces, size: groups(pieces, 2**14))  # noqa: B010
    resumable.CHUNK_SIZES = 512
    main()
