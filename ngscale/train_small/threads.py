"""How many threads torch has, and how they wait."""

import os

from ngscale.units import parse_whole


def wait_asleep() -> None:
    """Threads sleep while they wait, instead of spinning; to be settled before torch is loaded.

    Beside one busy neighbour on two cores a step of 0.3 s took 3 to 6 s with threads that spin, and
    0.4 s with threads that sleep.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def settle_threads() -> None:
    """As many as OMP_NUM_THREADS says, or as there are cores, whatever was done before.

    numba's parallel kernels change OpenMP's number for the whole process, and with it the last bits
    of a loss: a plan that is resumed behind them would train other runs.
    """
    import torch

    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    torch.set_num_threads(parse_whole(given, 2**15) or cores)
