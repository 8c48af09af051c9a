"""Hypothesis without deadlines (Numba compiles inside the first example), reproducible examples.

``make coverage`` takes its profile of few examples, for without compiled kernels they are slow.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: two workers share the cores

settings.register_profile("ngscale", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("brief", max_examples=10, deadline=None, derandomize=True)
settings.load_profile("ngscale")


def pytest_configure(config: pytest.Config) -> None:
    """Kernels wrap on purpose, of which numpy warns where they run as Python, in every thread:
    its ``seterr`` would be of one alone.
    """
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        config.addinivalue_line("filterwarnings", "ignore:overflow encountered:RuntimeWarning")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache directory of this run, also for the processes it starts."""
    directory = tmp_path_factory.mktemp("cache")
    os.environ["NGSCALE_CACHE"] = str(directory)
    return directory


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return Path(__file__).parent.parent
