"""The tasks of a ``ClusterRun`` through datatrove: processes of this machine, Slurm, or Ray.

A pool that loses a worker waits for ever: multiprocessing's does, and so datatrove's, here and
inside a Ray actor. So every local task is a process of its own whose end is seen however it comes,
and a Ray task has a pulse that ends with it. datatrove keeps logs and marks of completion in
``DIR/datatrove/<stage>``; what has to be done again is what ``ClusterRun.missing`` says.
"""

import importlib.util
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngscale.cluster import STAGES, ClusterRun, Stage, open_run
from ngscale.errors import MissingExtraError, NgscaleError, NoResultError, ResourceError, UsageError
from ngscale.ngram_runs import work_directory
from ngscale.whole_files import replacing

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

EXECUTORS = ("local", "slurm", "ray")
PULSE_S = 1.0
_LOOK_S = 0.1
LOST_AFTER_S = 15.0
"""A Ray task whose pulse is still for so long was killed."""
_PROCESS_BYTES = 2**30
"""Of a task, beside what it counts in: Python, numba, pages of the files it reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Where tasks run."""

    executor: str
    workers: int | None = None
    """Tasks at a time; all processors of this machine, or no limit elsewhere."""
    cpus_per_task: int = 1
    partition: str | None = None
    """Slurm's."""
    time: str | None = None
    """Slurm's limit of a task."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """More options of sbatch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stage as a step of a datatrove pipeline."""

    directory: Path
    stage: Stage
    threads: int
    pulse: bool = False

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Do one task."""
        path = _logs(self.directory, self.stage) / "pulse" / str(rank)
        with _pulse(path) if self.pulse else nullcontext():
            self.work(rank)

    def work(self, rank: int) -> None:
        """The task itself."""
        open_run(self.directory).run_task(self.stage, rank, threads=self.threads)


def check_launch(launch: Launch, max_memory_bytes: int | None) -> None:
    """See at once what would stop a run later.

    Raises:
        UsageError: the executor does not exist, or lacks an option or its scheduler.
        MissingExtraError: its package is not installed.
    """
    name = launch.executor
    if name not in EXECUTORS:
        raise UsageError(f"--executor {name}: takes {', '.join(EXECUTORS)}")
    if importlib.util.find_spec("datatrove") is None:
        raise MissingExtraError("datatrove", "cluster")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "cluster,ray")
    if name != "local" and max_memory_bytes is None:
        raise UsageError(f"--executor {name} needs --max-memory SIZE, the memory of each task")
    if name == "slurm" and (launch.partition is None or launch.time is None):
        raise UsageError("--executor slurm needs --partition NAME and --time HH:MM:SS")
    if name == "slurm" and shutil.which("sbatch") is None:
        raise UsageError("--executor slurm: there is no sbatch here; run it where jobs are sent")


def execute(run: ClusterRun, launch: Launch, tell: Callable[[str], object]) -> None:
    """Do what is missing of a run, and say what.

    Raises:
        ResourceError: a task was killed or met a full disk, or another process runs this.
        NoResultError: the tasks are Slurm's now; the same call goes on when they have ended.
    """
    with work_directory(run.directory):
        if launch.executor == "slurm":
            _check_queue(run)
        for stage in STAGES:
            todo = run.missing(stage)
            tell(f"{stage}: {len(todo)} of {run.num_tasks(stage)} tasks to do")
            if not todo:
                continue
            _forget(run, stage, todo)
            if launch.executor == "slurm":
                _submit(run, STAGES[STAGES.index(stage) :], launch)
            elif launch.executor == "ray":
                _run_ray(run, stage, launch)
            else:
                _run_local(run, stage, todo, launch)
            if left := run.missing(stage):
                raise ResourceError(_ended(run, stage, left[0], "did not finish"))
        run.clear()


def _logs(directory: Path, stage: Stage) -> Path:
    return directory / "datatrove" / stage


def _forget(run: ClusterRun, stage: Stage, ranks: Sequence[int]) -> None:
    """Take datatrove's marks back from tasks whose tables are not there."""
    for rank in ranks:
        mark = _logs(run.directory, stage) / "completions" / f"{rank:05d}"
        mark.unlink(missing_ok=True)


def _ended(run: ClusterRun, stage: Stage, rank: int, how: str) -> str:
    return (
        f"{stage} task {rank} of {run.num_tasks(stage)} {how}; what is finished is kept, the same "
        f"command does the rest (logs: {_logs(run.directory, stage)})"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """A process at the head of a group of its own, which ends with it and with this one."""

    process: "SpawnProcess"
    errors: "Connection"

    def is_alive(self) -> bool:
        """Asked of the system: the sentinel stays open while datatrove's manager, which a killed
        worker leaves behind, lives.
        """
        return self.process.is_alive()

    def end(self) -> str:
        """How it ended, "" where well.

        Raises:
            NgscaleError: the one that it met.
        """
        self.process.join()
        self.kill()
        if self.errors.poll():
            with suppress(EOFError):  # it sent nothing
                raise self.errors.recv()
        code = self.process.exitcode or 0
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}" if code else ""

    def kill(self) -> None:
        """Leave nothing of the group."""
        assert self.process.pid
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()


def _start(log: Path, target: Callable[..., None], *arguments: Any) -> _Child:
    log.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, log, target, arguments))
    process.start()
    sender.close()
    return _Child(process=process, errors=receiver)


def _child(
    errors: "Connection", log: Path, target: Callable[..., None], arguments: Sequence[Any]
) -> None:
    os.setsid()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        target(*arguments)
    except NgscaleError as error:
        errors.send(error)


def _run_local(run: ClusterRun, stage: Stage, todo: Sequence[int], launch: Launch) -> None:
    """Every task in a process of its own; the first that fails ends all."""
    cpus = os.cpu_count() or 1
    workers = launch.workers or max(1, cpus // launch.cpus_per_task)
    task = Task(directory=run.directory, stage=stage, threads=max(1, cpus // workers))
    logs = _logs(run.directory, stage)
    waiting = deque(todo)
    running: dict[int, _Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                rank = waiting.popleft()
                log = logs / "stderr" / f"{rank:05d}.log"
                running[rank] = _start(log, _local_rank, task, rank, run.num_tasks(stage))
            time.sleep(_LOOK_S)
            for rank in [rank for rank, child in running.items() if not child.is_alive()]:
                if how := running[rank].end():
                    raise ResourceError(_ended(run, stage, rank, how))
                del running[rank]
    finally:
        for child in running.values():
            child.kill()


def _local_rank(task: Task, rank: int, num_tasks: int) -> None:
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(
        pipeline=[task],
        tasks=num_tasks,
        workers=1,
        local_tasks=1,
        local_rank_offset=rank,
        logging_dir=str(_logs(task.directory, task.stage)),
    ).run()


def _memory_gb(run: ClusterRun, launch: Launch) -> int:
    """Of a processor, in GiB."""
    needed = (run.plan.max_memory_bytes or 0) + _PROCESS_BYTES
    return -(-needed // (launch.cpus_per_task * 2**30))


def _run_ray(run: ClusterRun, stage: Stage, launch: Launch) -> None:
    """Ray's driver in a process of its own, which is ended when a task has lost its pulse."""
    task = Task(directory=run.directory, stage=stage, threads=launch.cpus_per_task, pulse=True)
    logs = _logs(run.directory, stage)
    shutil.rmtree(logs / "pulse", ignore_errors=True)
    (logs / "pulse").mkdir(parents=True)
    memory = _memory_gb(run, launch)
    child = _start(logs / "ray.log", _ray_stage, task, run.num_tasks(stage), launch, memory)
    seen: dict[str, tuple[str, float]] = {}
    try:
        while child.is_alive():
            time.sleep(_LOOK_S)
            for path in (logs / "pulse").iterdir():
                with suppress(FileNotFoundError):
                    now = path.read_text(), time.monotonic()
                    last = seen.setdefault(path.name, now)
                    if now[0] != last[0]:
                        seen[path.name] = now
                    elif now[1] - last[1] > LOST_AFTER_S:
                        raise ResourceError(_ended(run, stage, int(path.name), "was killed"))
        child.end()
    finally:
        child.kill()


def _ray_stage(task: Task, num_tasks: int, launch: Launch, memory_gb: int) -> None:
    import ray
    from datatrove.executor import RayPipelineExecutor

    ray.init(log_to_driver=False)
    RayPipelineExecutor(
        pipeline=[task],
        tasks=num_tasks,
        workers=launch.workers or -1,
        cpus_per_task=launch.cpus_per_task,
        mem_per_cpu_gb=memory_gb,
        logging_dir=str(_logs(task.directory, task.stage)),
    ).run()


@contextmanager
def _pulse(path: Path) -> Iterator[None]:
    """A file that changes every second while this process lives and the block lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = threading.Event()

    def beat() -> None:
        number = 0
        while True:
            path.write_text(f"{os.getpid()} {number}")
            if done.wait(PULSE_S):
                return
            number += 1

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        path.unlink(missing_ok=True)


def _submit(run: ClusterRun, stages: Sequence[Stage], launch: Launch) -> None:
    """Hand the stages to Slurm, each after the one before it."""
    from datatrove.executor import SlurmPipelineExecutor

    last = None
    jobs = []
    for stage in stages:
        if last is not None:
            _forget(run, stage, range(run.num_tasks(stage)))
        logs = _logs(run.directory, stage)
        last = SlurmPipelineExecutor(
            pipeline=[Task(directory=run.directory, stage=stage, threads=launch.cpus_per_task)],
            tasks=run.num_tasks(stage),
            workers=launch.workers or -1,
            time=launch.time,
            partition=launch.partition,
            cpus_per_task=launch.cpus_per_task,
            mem_per_cpu_gb=_memory_gb(run, launch),
            qos=None,
            job_name=f"ngscale-{stage}",
            env_command=f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            sbatch_args={"kill-on-invalid-dep": "yes", **launch.sbatch},
            depends=last,
            logging_dir=str(logs.resolve()),
        )
        try:
            last.run()
        except subprocess.CalledProcessError as error:
            raise ResourceError(
                f"sbatch refused {logs / 'launch_script.slurm'}: exit code {error.returncode}"
            ) from error
        jobs.append(str(last.job_id))
    with replacing(_jobs_file(run)) as temporary:
        temporary.write_text(json.dumps(jobs) + "\n")
    raise NoResultError(_wait_for(jobs))


def _jobs_file(run: ClusterRun) -> Path:
    return run.directory / "datatrove" / "slurm_jobs.json"


def _wait_for(jobs: Sequence[str]) -> str:
    ids = ",".join(jobs)
    return f"Slurm has jobs {ids}; run the same command when they have ended (squeue --jobs {ids})"


def _check_queue(run: ClusterRun) -> None:
    """Raises: NoResultError: Slurm still has jobs of this run."""
    try:
        jobs = json.loads(_jobs_file(run).read_text())
        asked = subprocess.run(
            ["squeue", "--noheader", "--jobs", ",".join(jobs)], capture_output=True, check=False
        )
    except FileNotFoundError:
        return
    if asked.returncode == 0 and asked.stdout.strip():
        raise NoResultError(_wait_for(jobs))
