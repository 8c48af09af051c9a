"""``collisions --executor``: options -> tasks that count into a directory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngscale.commands.source import run_directory
from ngscale.errors import UsageError

if TYPE_CHECKING:
    from ngscale.collisions.run import Counting
    from ngscale.executors import Launch
    from ngscale.tokens import TokenStream

_NUM_TASKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What was asked for."""

    executor: str | None
    tasks: int | None
    workers: int | None
    cpus_per_task: int | None
    run_dir: Path | None
    partition: str | None
    time: str | None
    sbatch: Sequence[str]

    def launch(self, max_memory_bytes: int | None) -> "Launch | None":
        """Where the tasks run; None where there are none. Checked before anything is read.

        Raises:
            UsageError: an option without its executor, or the other way round.
            MissingExtraError: the executor is not installed.
        """
        if self.executor is None:
            named = {
                "--tasks": self.tasks,
                "--workers": self.workers,
                "--cpus-per-task": self.cpus_per_task,
                "--run-dir": self.run_dir,
                "--partition": self.partition,
                "--time": self.time,
                "--sbatch": self.sbatch or None,
            }
            if given := [option for option, value in named.items() if value is not None]:
                raise UsageError(f"{given[0]} goes with --executor local, slurm or ray")
            return None

        from ngscale.executors import Launch, check_launch

        launch = Launch(
            executor=self.executor,
            workers=self.workers,
            cpus_per_task=self.cpus_per_task or 1,
            partition=self.partition,
            time=self.time,
            sbatch=dict(_key_value(option) for option in self.sbatch),
        )
        check_launch(launch, max_memory_bytes)
        return launch

    def counting(
        self, launch: "Launch", alone: "Counting", orders: Sequence[int], inputs: dict[str, Any]
    ) -> "Counting":
        """The same counting, by tasks first."""
        from ngscale.cluster import Plan, make_run
        from ngscale.console import say
        from ngscale.executors import execute

        num_tasks = self.tasks or _NUM_TASKS
        policy = "no_eos" if alone.cross_documents else "hf"
        options = "-".join(map(str, [*orders, f"x{num_tasks}", alone.max_memory_bytes]))
        directory = self.run_dir or run_directory(inputs, f"{policy}-{options}")

        def count(stream: "TokenStream", orders: Sequence[int]) -> None:
            plan = Plan(
                stream_sha256=stream.sha256(),
                vocab_size=stream.vocab_size,
                orders=tuple(orders),
                cross_documents=alone.cross_documents,
                num_tasks=num_tasks,
                max_memory_bytes=alone.max_memory_bytes,
            )
            execute(make_run(directory, stream, plan), launch, say)

        return replace(alone, directory=directory, prepare=count)


def _key_value(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not key or not equals:
        raise UsageError(f"--sbatch {option}: takes KEY=VALUE, for example account=me")
    return key, value
