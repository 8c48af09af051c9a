"""Cases judged in forked processes: one that dies or hangs is told from one that is refused."""

import multiprocessing
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

LIMIT_S = 60.0
"""For one case, on a machine that may be busy."""
NUM_PROCESSES = 2


def judge_all(
    cases: Sequence[int], judge: Callable[[int], str], *, limit_s: float = LIMIT_S
) -> list[str]:
    """What ``judge`` says of each case.

    Raises:
        AssertionError: a case ended its process, or took longer than ``limit_s``.
    """
    fork = multiprocessing.get_context("fork")
    shares = [list(cases[start::NUM_PROCESSES]) for start in range(NUM_PROCESSES)]
    verdicts: dict[int, str] = {}
    running = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries, unused here
        for share in shares:
            theirs, ours = fork.Pipe(duplex=False)
            process = fork.Process(target=_work, args=(share, judge, ours), daemon=True)
            process.start()
            ours.close()
            running[theirs] = (process, iter(share), time.monotonic())
    try:
        while running:
            ready = wait(list(running), timeout=1)
            for connection in list(running):
                process, left, since = running[connection]
                if connection not in ready:
                    assert time.monotonic() - since < limit_s, f"case {next(left)} hangs"
                    continue
                assert isinstance(connection, Connection)
                try:
                    verdict = connection.recv()
                except EOFError:
                    process.join()
                    died = next(left, None)
                    assert died is None, f"case {died} ended its process: {process.exitcode}"
                    del running[connection]
                    continue
                verdicts[next(left)] = verdict
                running[connection] = (process, left, time.monotonic())
    finally:
        for process, _, _ in running.values():
            process.kill()
    return [verdicts[case] for case in cases]


def _work(share: Sequence[int], judge: Callable[[int], str], out: Connection) -> None:
    for case in share:
        out.send(judge(case))
    out.close()
