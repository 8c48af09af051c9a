"""A fixture for tests of small models, which too many threads only hold up."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch's threads share too little work here, and a busy neighbour stalls two that wait for
    each other, not one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
