"""What the recipes of big corpora share: documents -> parquet parts, in stages.

The work happens in ``.NAME.partial`` beside the result. Each stage (a downloaded package, the
spooled documents, each part) ends in a rename, so a killed run goes on after the last finished
one; the last rename turns the whole directory into the result.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sources import (
    MANIFEST,
    InputError,
    NetworkError,
    download,
    named,
    result_line,
    sha256_of,
    unpacked_deb,
    write_whole,
)

SEED = "ngscale"
"""Documents stand in the order of SHA-256 of ``SEED/name``: fixed, and the same in any language."""
PART_BYTES = 2**27
BUILT = "built.json"
_ROW_GROUP_BYTES = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document: where it came from, and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A downloaded package, as ``built.json`` records it."""

    package: str
    version: str
    licence: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """Where a document's UTF-8 bytes lie in the spool file."""

    name: str
    offset: int
    length: int


def say(message: str) -> None:
    """One line of the story."""
    print(message, file=sys.stderr, flush=True)


def work_dir(out: Path) -> Path:
    """The directory in which ``out`` is being made; what a killed build was writing there goes.

    Raises:
        InputError: ``out`` is there already.
    """
    if out.exists():
        raise InputError(f"{out} exists already; remove it to build it again")
    work = out.parent / f".{out.name}.partial"
    (work / "packages").mkdir(parents=True, exist_ok=True)
    for left in [*work.glob("tmp*"), *work.glob(".tmp-*")]:  # tempfile's scratch, half a file
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return work


def fetch(work: Path, pattern: str, commands: Sequence[list[str]]) -> Path:
    """The file ``pattern`` among the packages, else what the first command that works brings.

    Raises:
        NetworkError: none of the commands worked.
    """
    if there := sorted((work / "packages").glob(pattern)):
        return there[0]
    say(f"fetching {pattern}")
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        for number, command in enumerate(commands, start=1):
            try:
                file = download(command, Path(scratch), pattern)
                break
            except NetworkError:
                if number == len(commands):
                    raise
        return file.rename(work / "packages" / file.name)


def fetch_deb(work: Path, package: str, version: str, given: Path | None) -> Path:
    """The .deb of ``package``: from the directory ``given``, else of ``version``, else newer.

    Raises:
        InputError: ``given`` holds none.
        NetworkError: apt-get brought none.
    """
    pattern = f"{package}_*.deb"
    if given is None:
        wanted = [f"{package}={version}", package]
        return fetch(work, pattern, [["apt-get", "download", name] for name in wanted])
    if not (found := sorted(given.glob(pattern))):
        raise InputError(f"{given}: holds no {pattern}")
    return found[0]


def fetch_wheel(work: Path, requirement: str, given: Path | None) -> Path:
    """The wheel of ``requirement``: ``given``, else from pip.

    Raises:
        InputError: ``given`` is no file.
        NetworkError: pip brought none.
    """
    if given is not None:
        if not given.is_file():
            raise InputError(f"{given}: no such file")
        return given
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", requirement]
    pattern = requirement.partition("==")[0].replace("-", "_") + "-*.whl"
    return fetch(work, pattern, [command])


def describe_deb(deb: Path, package: str, licence: str) -> Package:
    """Version and hash of a .deb.

    Raises:
        InputError: it is not one.
    """
    asked = ["dpkg-deb", "--field", str(deb), "Version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{deb} is not a Debian package")
    version = done.stdout.strip()
    return Package(package=package, version=version, licence=licence, sha256=sha256_of(deb))


def describe_wheel(wheel: Path, package: str, licence: str) -> Package:
    """Version and hash of a wheel, whose file name says both."""
    _, _, rest = wheel.name.partition("-")
    version = rest.partition("-")[0]
    return Package(package=package, version=version, licence=licence, sha256=sha256_of(wheel))


def unpack(package: str, deb: Path, into: Path) -> Path:
    """Root of the unpacked .deb."""
    return unpacked_deb(package, deb, into)


def build_corpus(
    out: Path,
    work: Path,
    packages: Sequence[Package],
    documents: Callable[[], Iterable[Document]],
) -> None:
    """Spool the documents, write them as parts in their fixed order, and say what was built."""
    spooled = _spool(work, packages, documents)
    order = sorted(
        spooled, key=lambda item: hashlib.sha256(f"{SEED}/{item.name}".encode()).digest()
    )
    paths: list[Path] = []
    digest = hashlib.sha256()
    with (work / "spool").open("rb") as spool:
        for number, part in enumerate(_parts(order)):
            path = work / f"part-{number:03}.parquet"
            texts = [_read(spool, item) for item in part]
            for text in texts:
                digest.update(len(text).to_bytes(8, "little") + text)
            if not path.exists():
                say(f"writing {path.name}")
                _write_part(path, part, texts)
            paths.append(path)
    built = {
        "name": out.name,
        "packages": [asdict(package) for package in packages],
        "seed": SEED,
        "num_docs": len(order),
        "num_bytes": sum(item.length for item in order),
        "documents_sha256": digest.hexdigest(),
        "files": {path.name: sha256_of(path) for path in paths},
    }
    finish(out, work, built)


def finish(out: Path, work: Path, built: dict[str, Any]) -> None:
    """Write ``built.json``, drop what only the work needed, and let ``work`` become ``out``."""
    write_whole(work / BUILT, (json.dumps(built, indent=2) + "\n").encode())
    shutil.rmtree(work / "packages")
    for name in ("spool", "spool.json"):
        (work / name).unlink(missing_ok=True)
    work.rename(out)
    if built.get("documents_sha256") != recorded_documents(out.name, built):
        say(f"note: not the packages of manifest.toml; see {out / BUILT}")
    for path in sorted(out.iterdir()):
        print(result_line(path))


def recorded_documents(name: str, built: dict[str, Any]) -> str | None:
    """The hash manifest.toml records for the documents of ``name``; else the one in ``built``."""
    for entry in tomllib.loads(MANIFEST.read_text(encoding="utf-8"))["artefact"]:
        if entry["name"] == name and "documents_sha256" in entry:
            return str(entry["documents_sha256"])
    return built.get("documents_sha256")


def _spool(
    work: Path, packages: Sequence[Package], documents: Callable[[], Iterable[Document]]
) -> list[Spooled]:
    """All documents in one file, and where each lies; taken over if the packages are the same."""
    index = work / "spool.json"
    described = [asdict(package) for package in packages]
    if index.exists():
        found = json.loads(index.read_text("utf-8"))
        if found["packages"] == described:
            return [Spooled(name=n, offset=o, length=s) for n, o, s in found["documents"]]
        index.unlink()
    for stale in work.glob("part-*.parquet"):
        stale.unlink()
    say("reading documents")
    rows: list[tuple[str, int, int]] = []
    offset = 0
    with named(work / "spool"), (work / "spool").open("wb") as spool:
        for document in documents():
            data = document.text.encode("utf-8")
            spool.write(data)
            rows.append((document.name, offset, len(data)))
            offset += len(data)
    rows.sort()
    write_whole(index, json.dumps({"packages": described, "documents": rows}).encode())
    return [Spooled(name=n, offset=o, length=s) for n, o, s in rows]


def _parts(order: Sequence[Spooled]) -> Iterator[list[Spooled]]:
    part: list[Spooled] = []
    size = 0
    for item in order:
        part.append(item)
        size += item.length
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _read(spool: Any, item: Spooled) -> bytes:
    spool.seek(item.offset)
    return bytes(spool.read(item.length))


def _write_part(path: Path, part: Sequence[Spooled], texts: Sequence[bytes]) -> None:
    """A parquet file with the columns ``name`` and ``text``, in row groups of a few megabytes."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("name", pyarrow.string()), ("text", pyarrow.string())])
    temporary = path.with_name(f".tmp-{path.name}")
    with (
        named(path),
        pyarrow.parquet.ParquetWriter(
            temporary, schema, compression="zstd", use_dictionary=False
        ) as writer,
    ):
        start, size = 0, 0
        for stop, text in enumerate(texts, start=1):
            size += len(text)
            if size < _ROW_GROUP_BYTES and stop < len(texts):
                continue
            names = [item.name for item in part[start:stop]]
            columns = [
                pyarrow.array(names, pyarrow.string()),
                pyarrow.array(texts[start:stop], pyarrow.binary()).cast(pyarrow.string()),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            start, size = stop, 0
    temporary.replace(path)
