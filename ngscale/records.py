"""What a verb returns: a RunRecord (strict JSON) and a Report (what a person reads).

A record is a pure function of the inputs. Where, when and with which versions it was made is
``environment``, kept apart so that equal inputs give equal bytes.
"""

import datetime
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ngscale import __version__, strict_json
from ngscale.errors import InputError
from ngscale.whole_files import replacing

SCHEMA_VERSION = 1
_VERSIONED_PACKAGES = ("numpy", "numba", "tokenizers", "datasets", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Inputs and results of one run; everything in it is plain JSON."""

    verb: str
    answer: str
    """One sentence: what the user asked."""
    inputs: Mapping[str, Any]
    """What the results are a function of: hashes of files, options, RNG seeds."""
    results: Mapping[str, Any]
    """The verb's own keys, which stand at the top level of the document. Floats keep 12
    significant digits: the same bytes on processors whose vector units round differently."""
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tables too long for JSON, as arrays by column; saved as ``data/<name>.parquet``."""

    def __post_init__(self) -> None:
        """Round the results."""
        object.__setattr__(self, "results", _rounded(self.results))

    def document(self) -> dict[str, Any]:
        """The JSON object: ``schema_version``, ``verb``, ``answer``, ``inputs`` and results."""
        return {
            "schema_version": SCHEMA_VERSION,
            "verb": self.verb,
            "answer": self.answer,
            "inputs": dict(self.inputs),
            **self.results,
        }


def read_record(path: Path) -> RunRecord:
    """The record that a record.json holds.

    Raises:
        InputError: it holds none of this version.
    """
    try:
        document = strict_json.loads(path.read_bytes())
        if document.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError("another schema_version")
        head = {key: document.pop(key) for key in ("verb", "answer", "inputs")}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: is no record; remove its directory: {error}") from error
    return RunRecord(**head, results=document)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        # Most items of long lists are whole numbers: they need no call.
        return [item if type(item) is int else _rounded(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table: ``spec`` is a format specification, used only where rendered."""

    key: str
    title: str
    spec: str = ""

    def cell(self, row: Mapping[str, Any]) -> str:
        """This column's value in ``row`` as a person reads it; empty where there is none."""
        value = row.get(self.key)
        return "" if value is None else format(value, self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows with named columns; saved as ``data/<name>.csv``."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    terminal: bool = True
    """Whether the terminal and the report show it; False keeps it a data file only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, set of points or set of bars; ``low``/``high`` draw an interval around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: Literal["line", "points", "dashed", "bar"] = "line"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    y_log: bool = False
    x_log: bool = False
    x_ticks: tuple[str, ...] | None = None
    """Names for x = 0, 1, 2, ... where x is a category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels side by side; saved as ``figures/<name>.svg`` and ``.png``."""

    name: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """To a file of the report's own directory."""

    text: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with paragraphs and links, then figures, then tables."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer first, then sections."""

    title: str
    answer: str
    sections: tuple[Section, ...]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON files to use, saved as ``configs/<name>.json``."""

    @property
    def tables(self) -> list[Table]:
        """All tables, in reading order."""
        return [table for section in self.sections for table in section.tables]

    @property
    def figures(self) -> list[Figure]:
        """All figures, in reading order."""
        return [figure for section in self.sections for figure in section.figures]


def environment(argv: Sequence[str]) -> dict[str, Any]:
    """Who made a record, when, where, with what. Never part of the record.

    ``argv`` is the command behind ``ngscale``, which the report's foot repeats.
    """
    import importlib.metadata  # 40 ms, wanted only here

    versions = {"python": platform.python_version(), "ngscale": __version__}
    for package in _VERSIONED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "argv": list(argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "platform": sys.platform,
        "num_cpus": os.cpu_count(),
        "versions": versions,
    }


def dump_json(document: Mapping[str, Any]) -> str:
    """Strict JSON (no NaN, no infinity), two-space indent, one trailing newline.

    Bytes of a file name that are no Unicode, which Python holds as lone surrogates, are escapes.
    """
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def digest(document: Mapping[str, Any]) -> str:
    """A short name for what is a function of these inputs."""
    return hashlib.sha256(dump_json(document).encode()).hexdigest()[:16]


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all.

    Raises:
        DiskFullError: the disk is full.
        InputError: the directory cannot be written.
    """
    with replacing(path, "write elsewhere") as temporary:
        temporary.write_bytes(data)
