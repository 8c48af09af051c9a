"""A run too long to lose: rows hashed once, and every finished part, are found again after a kill.

``<root>/rows.i32`` holds the trace until the run ends, ``<root>/<part>.json`` what was measured.
The caller names ``root`` after everything these are a function of (``identity``).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ngscale import strict_json
from ngscale.cache.measure import Advance, Source, nobody
from ngscale.cache.trace import CHUNK, Rows
from ngscale.ngram_runs import work_directory
from ngscale.whole_files import replacing

_FORMAT = 2
"""Raised with whatever changes the parts of equal inputs."""


def identity(inputs: Mapping[str, Any]) -> str:
    """The name of the runs with these inputs."""
    told = json.dumps({"format": _FORMAT, **inputs}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


class Parts:
    """Parts of one run: kept ones are read, others made from the rows and kept."""

    def __init__(self, root: Path, source: Source, shape: tuple[int, int]) -> None:
        self._root = root
        self._source = source
        self._shape = shape
        self.num_asked = self.num_found = 0
        """Parts asked for, and those of them that an earlier run had finished."""

    def get(self, name: str, make: Callable[[Source], Any]) -> Any:
        """The part as JSON gives it back, made or found."""
        path = self._root / f"{name}.json"
        self.num_asked += 1
        try:
            found = strict_json.loads(path.read_bytes())
        except (OSError, ValueError):
            text = json.dumps(make(self._rows()))
            with replacing(path) as temporary:
                temporary.write_text(text)
            return json.loads(text)
        self.num_found += 1
        return found

    @property
    def rows_path(self) -> Path:
        """Where the trace is kept while it is needed."""
        return self._root / "rows.i32"

    def lacks(self, names: Iterable[str]) -> bool:
        """Whether one of these parts has to be made."""
        return any(not (self._root / f"{name}.json").exists() for name in names)

    def hash_rows(self, advance: Advance = nobody) -> None:
        """Write the trace to a file that is whole or not there; ``advance`` is told positions."""
        if self.rows_path.exists():
            return
        with replacing(self.rows_path) as temporary, temporary.open("wb") as file:
            for rows in self._source():
                file.write(rows.astype("<i4").data)
                advance(len(rows))

    def _rows(self) -> Source:
        self.hash_rows()
        held = np.memmap(self.rows_path, "<i4", "r", shape=self._shape)

        def again() -> Iterator[Rows]:
            for start in range(0, len(held), CHUNK):
                yield held[start : start + CHUNK].astype(np.int64)

        return again


@contextmanager
def parts_of_run(root: Path, source: Source, shape: tuple[int, int]) -> Iterator[Parts]:
    """This process's alone; the rows are removed once the block has succeeded.

    Raises:
        ResourceError: the disk is full, or another process makes the same run.
        InputError: the directory cannot be written.
    """
    with work_directory(root):
        parts = Parts(root, source, shape)
        yield parts
        parts.rows_path.unlink(missing_ok=True)
