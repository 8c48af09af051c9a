"""How OpenMP's threads wait, settled before torch loads it."""

import os


def wait_asleep() -> None:
    """Threads sleep while they wait, instead of spinning.

    Beside one busy neighbour on two cores a step of 0.3 s took 3 to 6 s with threads that spin, and
    0.4 s with threads that sleep.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
