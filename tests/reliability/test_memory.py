"""Too little memory is exit 6, its estimate told before anything is taken; --max-memory is kept."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ngscale import ngrams
from ngscale.cli import app
from ngscale.collisions import sweep
from ngscale.errors import ResourceError
from ngscale.free_memory import _START_BYTES, _VERBS, expect, free_bytes
from ngscale.hashing.registry import make_scheme
from tests.reliability.inputs import SHORT_RUNS, filled, write_inputs
from tests.test_cli import VERBS
from tests.test_ngrams import zipf_stream

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits address space")
LITTLE = 2**26
"""Of address space: Python and the command line start in it, no verb's libraries do."""
LIMITS = {"spilled": 32 * 2**20, **dict.fromkeys(("merged", "in memory", "cache"), 48 * 2**20)}
"""For --max-memory. What spills is given little more than its largest bucket takes: its other
ranges are then filled with n-grams where that bucket's buffers were, which a heap would keep.
"""
LADDER = (2**28, 2**29, 2**30, 2**31, 2**32)
ENDS = (0, 6)
START = """
import os, sys

os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:2])  # before libraries count processors

def status(key):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))

from ngscale.cli import main

before = status("VmSize")
try:
    main()
except SystemExit as end:
    sys.stderr.write(f"{end.code} {status('VmPeak') - before}")
"""
"""Exit code, and address space that a command takes, on two processors at most."""


def run(argv: list[str], address_space: int, **options: Any) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    return subprocess.run(
        [sys.executable, "-m", "ngscale", *argv],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


@LINUX
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_under_a_hard_limit_tells_what_it_needs_and_exits_6(verb: str) -> None:
    done = run([verb, "longcat-flash-lite"], LITTLE)
    assert (done.returncode, done.stdout) == (6, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {verb}, to start: needs at least ")
    assert line.endswith(" are free; raise ulimit -v")


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("address_space", LADDER)
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_crashes_under_any_limit(tmp_path: Path, verb: str, address_space: int) -> None:
    """Ids that every verb takes as its text, where it takes one."""
    ids = tmp_path / "ids.bin"
    np.random.default_rng(0).integers(1, 60, 200_000).astype("<u2").tofile(ids)
    text = ["--corpus", str(ids), "--vocab-size", "4096"]
    argv = {
        "collisions": [*text, "--orders", "2:4", "--sizes", "1000003"],
        "audit": ["longcat-flash-lite"],
        "budget": ["longcat-flash-lite"],
        "ids": ["longcat-flash-lite", "--tokens", "1,2,3"],
        "probe": [str(tmp_path)],
        "train-small": ["--tokens", "1024", "--seeds", "1", "--dry-run"],
        "decode": ["--dry-run"],
        "plan": ["longcat-flash-lite", "--dry-run"],
        "cache": ["longcat-flash-lite", *text, "--tokens", "4K"],
    }[verb]
    done = run([verb, *argv], address_space)
    ends = (*ENDS, 2, 3) if verb in ("probe", "decode") else ENDS  # they have no model here
    assert done.returncode in ends, done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode == 6:
        assert done.stderr.splitlines()[-1].startswith("error: ")


def test_what_fits_is_not_refused_and_the_system_tells_what_is_free() -> None:
    free = free_bytes()
    assert free is None or 2**20 < free < 2**50
    expect("all of it", 2**60, "", None)
    expect("all of it", 10, "", 10)
    with pytest.raises(
        ResourceError, match=r"^it: needs at least 2\.00 GiB of memory, 1\.00 KiB are free; do$"
    ):
        expect("it", 2**31, "do", 2**10)


def test_counting_in_memory_is_refused_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "free_bytes", lambda: 2**20)

    def sorted_all_the_same(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ngrams, "sort_range", sorted_all_the_same)
    stream = zipf_stream(400_000, vocab_size=5_000)
    with pytest.raises(ResourceError, match=r"^sorting \d+ n-grams of order 3: needs at least "):
        ngrams.count_ngrams(stream, 3)


def test_sizes_beyond_memory_are_refused_before_they_are_swept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sweep, "free_bytes", lambda: 2**20)
    scheme = make_scheme("longcat", vocab_size=300, base=None, multipliers=None, seed=None)
    with pytest.raises(ResourceError, match=r"^counting 100000007 rows: needs at least "):
        sweep.check_sizes(scheme, [100_000_007], vocab_size=300, max_order=2)


@LINUX
@pytest.mark.parametrize("what", LIMITS)
def test_max_memory_is_kept_within_a_tenth(tmp_path: Path, checkout: Path, what: str) -> None:
    """Growth of the peak RSS over what a tiny input takes; see memory_driver.py."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.reliability.memory_driver"),
            *(what, str(LIMITS[what]), str(tmp_path)),
        ],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert LIMITS[what] / 4 < found["growth"] <= 1.1 * LIMITS[what]
    assert bool(found["error"]) == (what in ("in memory", "cache"))


@LINUX
@pytest.mark.parametrize(
    "verb", ["audit", "collisions", pytest.param("train-small", marks=pytest.mark.slow)]
)
def test_a_start_up_figure_is_what_a_small_run_takes_and_not_twice_that(
    tmp_path: Path, verb: str
) -> None:
    """Of each group the verb that takes most, with nothing tokenised yet."""
    write_inputs(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", START, verb, *filled(SHORT_RUNS[verb], tmp_path)],
        env={**os.environ, "NGSCALE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    code, needed = map(int, done.stderr.splitlines()[-1].split())
    assert code == 0, done.stderr
    assert needed <= _START_BYTES[_VERBS[verb]] <= 2 * needed


def test_every_verb_has_its_start_up_figure() -> None:

    named = {group.name for group in app.registered_groups}
    assert {*_VERBS} == {*VERBS, *named}
