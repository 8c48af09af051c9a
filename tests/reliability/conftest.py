"""What several files of tests read."""

from pathlib import Path

import pytest

from tests.reliability.inputs import write_inputs


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small inputs of every verb."""
    directory = tmp_path_factory.mktemp("files")
    write_inputs(directory)
    return directory
