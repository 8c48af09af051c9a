"""python -m tests.probe.peak_memory SMALL LARGE stream|whole: growth of the peak RSS, in bytes.

SMALL, a tiny checkpoint of the same kind, is probed first: what the interpreter, the libraries and
their threads take is the baseline, and only what LARGE adds to it is printed.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from ngscale.probe.load import load_checkpoint
from ngscale.probe.norms import measure

TOKENS = 64


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def probe(directory: Path, *, stream: bool) -> None:
    checkpoint = load_checkpoint(directory, device="cpu", stream=stream)
    windows = 3 + np.arange(2 * TOKENS).reshape(2, TOKENS) * 7 % (checkpoint.vocab_size - 3)
    measure(
        checkpoint.structure,
        checkpoint.run,
        windows,
        device=torch.device("cpu"),
        done=lambda: None,
        together=stream,
    )


def main() -> None:
    small, large, how = sys.argv[1:]
    torch.set_num_threads(1)
    probe(Path(small), stream=how == "stream")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    probe(Path(large), stream=how == "stream")
    sys.stdout.write(str(status("VmHWM") - before))


if __name__ == "__main__":
    main()
