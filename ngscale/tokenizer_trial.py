"""A tokenizer.json, loaded and used in a process of its own, which may hang or die of it.

No exception tells of normalisers that double the text forty times, or take an hour for a word.
Imports the tokenizers package alone, so that the process takes 0.06 s.
"""

import os
import subprocess
import sys
from pathlib import Path

from ngscale.errors import InputError

SECONDS = 20
"""Of processor time, so that a busy machine refuses nothing."""
FREE_BYTES = 2 * 2**30
"""Of memory, and so many for each of the file:"""
_BYTES_PER_BYTE = 32
_TEXTS = (
    "A trial, of 1 line:\n",
    "a" * 200,
    "aA1 " * 60 + "\n" * 40 + " " * 200 + "1" * 200 + "'s-_.!" * 30,
    "na\u00efve \u0395\u03bb \u65e5\u672c\u8a9e \U0001f600\u200d\u0301\t\x00\ufffd" * 10,
)


def try_out(path: Path, data: bytes) -> None:
    """Load ``data``, the content of ``path``, in another process, and read a few texts with it.

    What the library says against it is not told: the caller meets that, too.

    Raises:
        InputError: it takes too long or too much memory, or ends its process.
    """
    num_bytes = FREE_BYTES + _BYTES_PER_BYTE * len(data)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ngscale.tokenizer_trial", str(SECONDS), str(num_bytes)],
        input=data,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    if done.returncode:
        raise InputError(
            f"{path}: to load it and read a few lines takes more than {SECONDS} s or "
            f"{num_bytes >> 20} MiB (status {done.returncode}); its process was ended"
        )


def _limit(seconds: int, num_bytes: int) -> None:
    """This process to its time, and to so much memory more than it has."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # no Linux
        return
    most = pages * resource.getpagesize() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Exit status 0 where the library came back, be it with an error."""
    import tokenizers

    seconds, num_bytes = map(int, sys.argv[1:])
    data = sys.stdin.buffer.read()
    _limit(seconds, num_bytes)
    try:
        backend = tokenizers.Tokenizer.from_buffer(data)
        backend.no_truncation()
        backend.no_padding()
        for text in _TEXTS:
            backend.encode(text, add_special_tokens=False)
    except MemoryError:
        os._exit(1)
    except BaseException:  # a panic in a Rust library is not an Exception
        os._exit(0)
    os._exit(0)


if __name__ == "__main__":
    main()
