import errno
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ngscale import executors
from ngscale.cluster import ClusterRun, make_run
from ngscale.errors import MissingExtraError, NoResultError, ResourceError, UsageError
from ngscale.executors import Launch, Task, check_launch, execute
from ngscale.ngrams import count_ngrams
from tests.test_cluster import plan_of, tables
from tests.test_ngram_runs import STREAM

datatrove = pytest.mark.skipif(
    importlib.util.find_spec("datatrove") is None, reason="needs ngscale[cluster]"
)
LOCAL = Launch(executor="local", workers=2)
SLURM = Launch(executor="slurm", partition="cpu", time="01:00:00")


class Recorded(Task):
    """Writes down that it ran, and with which process."""

    def work(self, rank: int) -> None:
        with (self.directory / "ran").open("a") as file:
            file.write(f"{self.stage} {rank} {os.getpid()}\n")
        self.before(rank)
        super().work(rank)

    def before(self, rank: int) -> None: ...


class Exits(Recorded):
    def before(self, rank: int) -> None:
        if rank == 1 and self.stage == "count":
            os._exit(1)


class Killed(Recorded):
    def before(self, rank: int) -> None:
        if rank == 1 and self.stage == "merge":
            os.kill(os.getpid(), signal.SIGKILL)


class StopsItsPulse(Recorded):
    def before(self, rank: int) -> None:
        if rank == 1 and self.stage == "count":
            time.sleep(2 * executors.PULSE_S)
            os._exit(1)


class FullDisk(Recorded):
    def before(self, rank: int) -> None:
        def full(*_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        if rank == 1:
            os.posix_fallocate = full


class Sleeps(Recorded):
    def before(self, rank: int) -> None:
        time.sleep(600)


def ran(run: ClusterRun) -> list[str]:
    """Which tasks ran, since the last time this was asked."""
    path = run.directory / "ran"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(line.rpartition(" ")[0] for line in lines)


def nothing(line: str) -> None: ...


@pytest.fixture
def run(tmp_path: Path) -> ClusterRun:
    plan = plan_of(STREAM, orders=(2, 3), tasks=2)
    return make_run(tmp_path / "tasks", STREAM, plan)


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of one process."""
    count_ngrams(STREAM, 3, directory=tmp_path / "alone")
    return tables(tmp_path / "alone")


@datatrove
@pytest.mark.parametrize(
    ("task", "how", "first"),
    [
        (Exits, "count task 1 of 2 ended with exit code 1; ", ["count 0", "count 1"]),
        pytest.param(
            Killed,
            "merge task 1 of 2 was killed by SIGKILL; ",
            ["count 0", "count 1", "merge 0", "merge 1"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_worker_killed_hard_ends_the_run_and_a_relaunch_does_the_rest(
    run: ClusterRun,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    task: type[Task],
    how: str,
    first: list[str],
) -> None:
    monkeypatch.setattr(executors, "Task", task)
    with pytest.raises(ResourceError, match=f"^{how}what is finished is kept, the same command"):
        execute(run, Launch(executor="local", workers=1), nothing)
    assert time.time() - (run.directory / "ran").stat().st_mtime < 30
    until(lambda: not groups() & set((run.directory / "ran").read_text().split()[2::3]))
    assert ran(run) == first
    monkeypatch.setattr(executors, "Task", Recorded)
    lines: list[str] = []
    execute(run, LOCAL, lines.append)
    everything = {f"{stage} {rank}" for stage in ("count", "merge", "join") for rank in (0, 1)}
    finished = set(first[:-1])  # all but the one that was killed
    assert set(ran(run)) == everything - finished
    assert lines[0] == (
        "count: 1 of 2 tasks to do" if task is Exits else "count: 0 of 2 tasks to do"
    )
    assert tables(run.directory) == whole
    execute(run, LOCAL, nothing)
    assert ran(run) == []


@datatrove
def test_the_error_of_a_task_is_the_error_of_the_run(
    run: ClusterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "Task", FullDisk)
    with pytest.raises(ResourceError, match=r"shards.*: the disk is full; free some space"):
        execute(run, LOCAL, nothing)


@datatrove
@pytest.mark.slow
def test_a_table_that_is_gone_is_made_again_whatever_datatrove_remembers(
    run: ClusterRun, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "Task", Recorded)
    execute(run, LOCAL, nothing)
    ran(run)
    (marker,) = run.directory.glob("ngrams-*/order-3.json")
    marker.unlink()
    execute(run, LOCAL, nothing)
    assert ran(run) == ["count 0", "count 1", "join 1", "merge 0", "merge 1"]
    assert tables(run.directory) == whole


@datatrove
def test_a_killed_run_leaves_no_worker(tmp_path: Path, checkout: Path) -> None:
    code = f"""
from pathlib import Path
from ngscale import executors
from ngscale.cluster import make_run
from tests.test_cluster import plan_of
from tests.test_executors import LOCAL, Sleeps, STREAM, nothing
if __name__ == "__main__":
    executors.Task = Sleeps
    run = make_run(Path({str(tmp_path)!r}), STREAM, plan_of(STREAM, tasks=2))
    executors.execute(run, LOCAL, nothing)
"""
    path = tmp_path / "driver.py"
    path.write_text(code)
    inherited = os.pathsep.join([str(checkout), *sys.path])
    driver = subprocess.Popen([sys.executable, path], env={**os.environ, "PYTHONPATH": inherited})
    until(lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split()) == 6)
    workers = (tmp_path / "ran").read_text().split()[2::3]
    driver.kill()
    driver.wait()
    until(lambda: not any(alive(int(worker)) for worker in workers))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def groups() -> set[str]:
    """Of all processes that are not dead: datatrove's manager would outlive a killed worker."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            found |= {group} if state != "Z" else set()
    return found


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@datatrove
def test_a_directory_in_use_is_refused(run: ClusterRun) -> None:
    import fcntl

    with (run.directory / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process works there"):
            execute(run, LOCAL, nothing)


@pytest.mark.parametrize(
    ("launch", "memory", "named"),
    [
        (Launch(executor="dask"), 1, "--executor dask: takes local, slurm, ray"),
        (Launch(executor="slurm"), None, "--executor slurm needs --max-memory"),
        (Launch(executor="slurm"), 1, "--executor slurm needs --partition NAME and --time"),
        (SLURM, 1, "there is no sbatch here"),
    ],
)
def test_what_cannot_start_is_a_usage_error(
    launch: Launch, memory: int | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=named):
        check_launch(launch, memory)


@pytest.mark.parametrize(
    ("executor", "missing", "extra"),
    [
        ("local", "datatrove", "cluster"),
        ("slurm", "datatrove", "cluster"),
        ("ray", "datatrove", "cluster"),
        ("ray", "ray", "cluster,ray"),
    ],
)
def test_an_executor_that_is_not_installed_names_the_pip_command(
    executor: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(MissingExtraError, match=rf"pip install 'ngscale\[{extra}\]'") as caught:
        check_launch(Launch(executor=executor), 1)
    assert caught.value.exit_code == 8


FAKE = {
    "sbatch": """#!/bin/sh
for script; do :; done
number=$(ls "$FAKE_SLURM" | wc -l)
cp "$script" "$FAKE_SLURM/$number.sh"
echo "$@" > "$FAKE_SLURM/$number.args"
number=$((number + 100))
echo "Submitted batch job $number"
""",
    "squeue": '#!/bin/sh\ncat "$FAKE_SLURM/../queue"\n',
    "scontrol": "#!/bin/sh\necho node-1\n",
    "srun": """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done
exec "$@"
""",
    "launch_pickled_pipeline": f"""#!/bin/sh
exec {sys.executable} -m datatrove.tools.launch_pickled_pipeline "$@"
""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a cluster that runs nothing keeps the scripts it got: <n>.sh and <n>.args."""
    (tmp_path / "bin").mkdir()
    for name, text in FAKE.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "slurm").mkdir()
    (tmp_path / "queue").write_text("")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "slurm"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "slurm"


def jobs(slurm: Path, name: str) -> list[Path]:
    """Scripts of that job name, in the order in which they came; not datatrove's statistics."""
    scripts = sorted(slurm.glob("*.sh"), key=lambda path: int(path.stem))
    texts = [path.read_text() for path in scripts]
    return [
        path
        for path, text in zip(scripts, texts, strict=True)
        if f"--job-name=ngscale-{name}\n" in text and "launch_pickled_pipeline" in text
    ]


@datatrove
def test_slurm_gets_three_jobs_each_after_the_one_before(run: ClusterRun, slurm: Path) -> None:
    launch = Launch(
        executor="slurm",
        workers=1,
        cpus_per_task=2,
        partition="cpu",
        time="01:30:00",
        sbatch={"account": "me"},
    )
    with pytest.raises(NoResultError, match=r"^Slurm has jobs (\d+),\d+,\d+; run the same command"):
        execute(run, launch, nothing)
    ids: list[int] = []
    for stage in ("count", "merge", "join"):
        (script,) = jobs(slurm, stage)
        lines = script.read_text().splitlines()
        assert lines[0] == "#!/bin/bash"
        options = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
        assert options >= {
            "account=me",
            "array=0-1%1",
            "cpus-per-task=2",
            "kill-on-invalid-dep=yes",
            "mem-per-cpu=1G",  # 1 GiB of Python and 1.5 MB to count in, by two processors
            "partition=cpu",
            "time=01:30:00",
        }
        assert not any(option.startswith("qos") for option in options)
        assert f"export PATH={Path(sys.executable).parent}:$PATH" in lines
        pipeline = run.directory.resolve() / "datatrove" / stage / "executor.pik"
        assert lines[-1].split()[-2:] == ["launch_pickled_pipeline", str(pipeline)]
        assert pipeline.is_file()
        arguments = script.with_suffix(".args").read_text()
        assert f"--dependency=afterok:{ids[-1]}" in arguments if ids else "dep" not in arguments
        ids.append(int(script.stem) // 2 * 2 + 100)
    (slurm.parent / "queue").write_text("100 cpu ngscale-count\n")
    before = set(slurm.iterdir())
    with pytest.raises(NoResultError, match="Slurm has jobs"):
        execute(run, launch, nothing)
    assert set(slurm.iterdir()) == before


@datatrove
@pytest.mark.slow
def test_what_slurm_would_run_leaves_the_files_of_one_process(
    run: ClusterRun, whole: dict[str, bytes], slurm: Path, checkout: Path
) -> None:
    with pytest.raises(NoResultError):
        execute(run, SLURM, nothing)
    inherited = os.pathsep.join([str(checkout), *sys.path])
    for stage in ("count", "merge", "join"):
        (script,) = jobs(slurm, stage)
        for rank in ("0", "1"):
            env = {"SLURM_ARRAY_TASK_ID": rank, "SLURM_NODELIST": "node-[1]"}
            subprocess.run(
                ["bash", script],
                check=True,
                env={**os.environ, "PYTHONPATH": inherited, **env},
                capture_output=True,
            )
    execute(run, SLURM, nothing)
    assert tables(run.directory) == whole
    assert len(jobs(slurm, "count")) == 1


@datatrove
def test_slurm_that_refuses_is_told(run: ClusterRun, slurm: Path) -> None:
    (slurm.parent / "bin" / "sbatch").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(ResourceError, match=r"sbatch refused .*launch_script\.slurm: exit code 3"):
        execute(run, SLURM, nothing)


@datatrove
@pytest.mark.slow
def test_ray_leaves_the_files_of_one_process(run: ClusterRun, whole: dict[str, bytes]) -> None:
    pytest.importorskip("ray", reason="needs ngscale[cluster,ray]")
    execute(run, Launch(executor="ray", workers=2), nothing)
    assert tables(run.directory) == whole


@datatrove
@pytest.mark.slow
def test_a_ray_task_killed_hard_ends_the_run(
    run: ClusterRun, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs ngscale[cluster,ray]")
    launch = Launch(executor="ray", workers=2)
    monkeypatch.setattr(executors, "LOST_AFTER_S", 5.0)
    monkeypatch.setattr(executors, "Task", StopsItsPulse)
    with pytest.raises(ResourceError, match=r"^count task 1 of 2 was killed; "):
        execute(run, launch, nothing)
    monkeypatch.setattr(executors, "Task", Task)
    execute(run, launch, nothing)
    assert tables(run.directory) == whole
