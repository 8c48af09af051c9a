import signal
import threading
import time
from collections.abc import Callable

import pytest

from ngscale.collisions.threads import run_jobs


def test_every_job_is_done_once_by_some_thread() -> None:
    done: list[int] = []
    run_jobs(range(1000), lambda job, own: done.append(job), list, threads=3)
    assert sorted(done) == list(range(1000))


def fail() -> None:
    raise ValueError("a job failed")


def interrupt() -> None:
    """As Ctrl-C does."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.mark.parametrize(("end", "error"), [(fail, ValueError), (interrupt, KeyboardInterrupt)])
def test_an_error_or_an_interrupt_ends_the_jobs_at_once(
    end: Callable[[], None], error: type[BaseException]
) -> None:
    """A sweep of 393,217 sizes once went on for minutes after Ctrl-C."""
    done: list[int] = []

    def work(job: int, own: list[int]) -> None:
        if job == 3:
            end()
        time.sleep(0.005)
        done.append(job)

    with pytest.raises(error):
        run_jobs(range(2000), work, list, threads=2)
    assert len(done) < 500
