"""Where text comes from: sources named on the command line -> documents, one string each.

A .txt file is one document; a line of .jsonl and a row of .parquet are one each; ``hf://name``
streams a data set through the ``datasets`` library (a hub id, or a local directory of data files).
"""

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ngscale.errors import InputError, NetworkError

SUFFIXES = (".txt", ".jsonl", ".parquet")
HUB_PREFIX = "hf://"
_PACKAGED = Path(__file__).parent / "corpora"
_CHECKOUT = Path(__file__).parent.parent / "corpora"


def embedded_dir() -> Path:
    """The ``corpora/`` folder: inside an installed wheel, or at the root of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def default_sources() -> list[str]:
    """The embedded default: *Emma* and *Pride and Prejudice*, public domain."""
    return [str(path) for path in sorted((embedded_dir() / "default").glob("*.txt"))]


def expand(source: str) -> list[Path]:
    """The files a path, directory or glob names, sorted.

    Raises:
        InputError: nothing is there, or a directory holds nothing readable.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in (*SUFFIXES, ".bin"))
        if not found:
            raise InputError(f"{source}: the directory has no {', '.join(SUFFIXES)} file")
        return found
    if path.exists():
        return [path]
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207
    if not found:
        raise InputError(f"{source}: no such file; --corpus takes a file, directory, glob or hf://")
    return found


def read_documents(
    sources: Sequence[str], *, text_field: str = "text", split: str = "train"
) -> Iterator[str]:
    """The documents of all sources in order; ``text_field`` names the column or key.

    Raises:
        InputError: a file is unreadable, of an unknown kind, or lacks ``text_field``.
        NetworkError: a hub data set cannot be reached.
    """
    for source in sources:
        if source.startswith(HUB_PREFIX):
            yield from _read_hub(source.removeprefix(HUB_PREFIX), text_field, split)
            continue
        for path in expand(source):
            yield from _read_file(path, text_field)


def _read_file(path: Path, text_field: str) -> Iterator[str]:
    if path.suffix == ".txt":
        yield _read_text(path)
    elif path.suffix == ".jsonl":
        yield from _read_jsonl(path, text_field)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path, text_field)
    else:
        raise InputError(f"{path}: not a corpus; known kinds: {', '.join(SUFFIXES)} and .bin")


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8; convert the file first"
        ) from error


def _read_jsonl(path: Path, text_field: str) -> Iterator[str]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not JSON: {error}") from error
        text = record.get(text_field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise InputError(
                f"{path}: line {number} has no text in {text_field!r}; --text-field names the key"
            )
        yield text


def _read_parquet(path: Path, text_field: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        if text_field not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names)
            raise InputError(f"{path}: no column {text_field!r}; --text-field takes one of {names}")
        for batch in file.iter_batches(columns=[text_field]):
            for text in batch.column(0).to_pylist():
                if not isinstance(text, str):
                    raise InputError(
                        f"{path}: column {text_field!r} holds {type(text).__name__}, not text"
                    )
                yield text
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from error


def _read_hub(name: str, text_field: str, split: str) -> Iterator[str]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split=split, streaming=True)
        for row in rows:
            if not isinstance(row.get(text_field), str):
                fields = ", ".join(row)
                raise InputError(
                    f"{HUB_PREFIX}{name}: no text in {text_field!r}; "
                    f"--text-field takes one of {fields}"
                )
            yield row[text_field]
    except ConnectionError as error:
        raise NetworkError(f"{HUB_PREFIX}{name}: cannot be reached: {error}") from error
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"{HUB_PREFIX}{name}: {error}") from error
