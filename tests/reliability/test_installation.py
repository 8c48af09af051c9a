"""An installation that its user cannot write, and a user without a home."""

import os
import pathlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ngscale.cli import app

NOBODY = "12345"
"""A user that /etc/passwd does not list."""
MOUNTED = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
cd "$2"
shift 2
exec unshare -U --map-user="$0" "$@"
"""
CODE = "from ngscale.cli import main; main()"
TOKENS = ",".join(map(str, range(5000)))
"""More than are answered without kernels."""


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package in which no kernel has been compiled."""
    directory = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("*.nbi", "*.nbc")
    shutil.copytree(checkout / "ngscale", directory / "ngscale", ignore=ignored)
    (directory / "corpora").symlink_to(checkout / "corpora")
    return directory


def run(site: Path, cwd: Path, environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """``ids`` of many tokens, with ``site`` mounted read-only."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux) to mount the installation read-only")
    mounting = ["unshare", "-rm", "sh", "-c", MOUNTED, NOBODY, str(site), str(cwd)]
    tried = subprocess.run([*mounting, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no user and mount namespace here: {tried.stderr.strip()}")
    argv = ["-c", CODE, "ids", "longcat-flash-lite", "--tokens", TOKENS, "--json"]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        [*mounting, sys.executable, "-P", *argv],
        env={**kept, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "has_home",
    [pytest.param(True, id="home", marks=pytest.mark.slow), pytest.param(False, id="no home")],
)
def test_kernels_need_no_writable_installation(has_home: bool, site: Path, tmp_path: Path) -> None:
    home, cwd, scratch = (tmp_path / name for name in ("home", "cwd", "tmp"))
    for directory in (home, cwd, scratch):
        directory.mkdir()
    environ = {"TMPDIR": str(scratch), "NGSCALE_CACHE": str(tmp_path / "cache")}
    before = sorted(site.rglob("*"))
    done = run(site, cwd, environ | ({"HOME": str(home)} if has_home else {}))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert bool(list(home.rglob("*.nbi"))) == has_home, "kernels are kept where they can be"
    assert list(cwd.iterdir()) == list(scratch.iterdir()) == []
    assert sorted(site.rglob("*")) == before


VERBS = ("corpora list", "ids longcat-flash-lite --text x --tokenizer bpe-4096", "collisions")


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_home_the_way_out_is_told(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NGSCALE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def home(_: object = None) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "home", home)
    done = CliRunner().invoke(app, verb.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: HOME: is not set, and this user has no home directory; set NGSCALE_CACHE to a "
        "directory for corpora and kept results\n"
    )
