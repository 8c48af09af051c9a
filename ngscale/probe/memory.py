"""PyTorch's ways to be out of memory, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ngscale.errors import ResourceError


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """PyTorch's ways to be out of memory -> ResourceError; on the CPU only the text says so.

    Raises:
        ResourceError: ``what`` does not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise ResourceError(f"{what} does not fit in memory; probe a smaller model") from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what ``error`` says."""
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
