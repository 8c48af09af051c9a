"""Write every kind of artefact to a disk that is full, and see what is left of the one before.

    unshare -rm python -m tests.reliability.full_disk_driver DIRECTORY NAME,...

mounts a tmpfs at DIRECTORY in a namespace of its own and prints one JSON object: case -> what was
found with each amount of room. Every attempt is a fork, so that a signal is seen as one.
"""

import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ngscale import cli, report
from ngscale.commands import answer
from ngscale.ngrams import NgramTable
from ngscale.records import RunRecord, environment, write_atomic
from ngscale.tokens import TokenStream

DISK_BYTES = 32 * 2**20
PAGE = 4096
ROOM = {"none": 0.0, "a page": -1.0, "half": 0.5}
"""Name -> share of the largest file that there was; negative: pages."""
Make = Callable[[Path, int], None]
"""Write an artefact below a directory: the version 0 first, then the version 1 in its place."""


def stream(version: int, num_tokens: int = 60_000, vocab_size: int = 500) -> TokenStream:
    rng = np.random.default_rng(version)
    tokens = np.minimum(rng.zipf(1.3, num_tokens), vocab_size) - 1
    return TokenStream(
        tokens=tokens.astype(np.uint32),
        doc_starts=np.array([0, num_tokens // 3, num_tokens]),
        vocab_size=vocab_size,
        num_bytes=0,
    )


def grams(version: int, num_rows: int = 20_000) -> NgramTable:
    rng = np.random.default_rng(version)
    codes = np.sort(rng.choice(300 * 300, num_rows, replace=False))
    return NgramTable(
        order=2,
        tokens=np.array([codes % 300, codes // 300], dtype=np.uint32),
        counts=rng.integers(1, 5, num_rows),
    )


def record(version: int) -> RunRecord:
    values = np.random.default_rng(version).random(4_000).tolist()
    return RunRecord(verb="v", answer="a", inputs={"version": version}, results={"values": values})


def undated(argv: Sequence[str]) -> dict[str, Any]:
    """What the foot of a report says, so that equal inputs give equal bytes there too."""
    return {**environment(argv), "date": "2000-01-01"}


def make_report(root: Path, version: int) -> None:
    from ngscale.records import Column, Report, Section, Table

    rows = [{"x": value} for value in record(version).results["values"]]
    table = Table(name="rows", title="t", columns=(Column(key="x", title="x"),), rows=rows)
    section = Section(heading="h", tables=(table,))
    page = Report(title="t", answer="a", sections=(section,), configs={"one": {"v": version}})
    kept = RunRecord(
        verb="v",
        answer="a",
        inputs={"version": version},
        results={},
        columns={"many": {"x": np.random.default_rng(version).integers(0, 2**40, 4_000)}},
    )
    report.write_report(page, kept, undated(["v"]), root / "report")


def make_record(root: Path, version: int) -> None:
    text = json.dumps(record(version).document())
    write_atomic(root / "record.json", text.encode())


def make_csv(root: Path, version: int) -> None:
    from ngscale.records import Column, Table

    rows = [{"x": value} for value in record(version).results["values"]]
    table = Table(name="rows", title="t", columns=(Column(key="x", title="x"),), rows=rows)
    write_atomic(root / "data" / "rows.csv", report.csv_bytes(table))


def make_command(root: Path, version: int) -> None:
    """A verb as a user calls it; what it raises has become an exit code already."""
    import typer.testing

    argv = ["budget", "longcat-flash-lite", "--tp", str(1 + version), "--out", str(root / "out")]
    result = typer.testing.CliRunner().invoke(cli.app, argv)
    if result.exit_code:
        sys.stderr.write(result.stderr)
        raise SystemExit(result.exit_code)


def make_ngrams(root: Path, version: int) -> None:
    from ngscale.ngrams import count_ngrams

    count_ngrams(stream(version), 4, directory=root / "ngrams", threads=2)


def make_parquet(root: Path, version: int) -> None:
    from ngscale.ngram_files import NgramSource, write_parquet

    source = NgramSource.of(stream(version))
    write_parquet(grams(version), root / "2-grams.parquet", source)


def make_tasks(root: Path, version: int) -> None:
    """Of a count that is spread: a stream in no file is written beside its plan."""
    from ngscale.cluster import STAGES, Plan, make_run

    counted = stream(version)
    run = make_run(
        root / f"tasks-{version}",
        counted,
        Plan(
            stream_sha256=counted.sha256(),
            vocab_size=counted.vocab_size,
            orders=(2, 3),
            cross_documents=False,
            num_tasks=2,
            max_memory_bytes=None,
        ),
    )
    for stage in STAGES:
        for rank in run.missing(stage):
            run.run_task(stage, rank, threads=2)


def make_tokens(root: Path, version: int) -> None:
    """Text outside of the disk, its ids on it."""
    from ngscale.tokens import load_tokenizer, read_stream

    text = root.parent.parent / f"text-{version}.txt"
    if not text.exists():
        words = np.random.default_rng(version).integers(0, 10**6, 40_000)
        text.write_text("\n".join(map(str, words.tolist())))
    read_stream([str(text)], load_tokenizer("bpe-4096"), cache=root / "cache")


def make_ids(root: Path, version: int) -> None:
    """A .bin, whose ids are copied to the cache."""
    from ngscale.tokens import read_bin

    ids = root.parent.parent / f"ids-{version}.bin"
    stream(version).tokens.astype("<u2").tofile(ids)
    read_bin([str(ids)], dtype="uint16", vocab_size=500, cache=root / "cache")


def make_corpus(root: Path, version: int) -> None:
    """``corpora build``: the stages that every recipe of a corpus shares."""
    import stages
    from sources import run_recipe

    def built() -> None:
        out = root / f"corpus-{version}"
        package = stages.Package(package="p", version=str(version), licence="L", sha256="0" * 64)
        random = np.random.default_rng(version)
        texts = [stages.Document(name=f"d{i}", text=random.bytes(2_000).hex()) for i in range(50)]
        stages.build_corpus(out, stages.work_dir(out), [package], lambda: texts)

    if code := run_recipe(built):
        raise SystemExit(code)


def make_tokenizer(root: Path, version: int) -> None:
    """A tokenizer's recipe, from a wheel outside of the disk."""
    import zipfile

    import tekken
    from sources import run_recipe

    wheel = root.parent.parent / f"mistral_common-1.{version}-py3-none-any.whl"
    if not wheel.exists():
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(tekken.MEMBER, np.random.default_rng(version).bytes(100_000).hex())
    sys.argv = ["tekken", "--out", str(root / f"tekken-{version}"), "--wheel", str(wheel)]
    if code := run_recipe(tekken.main):
        raise SystemExit(code)


def make_sweep(root: Path, version: int) -> None:
    from contextlib import nullcontext

    from ngscale.collisions import resumable
    from ngscale.collisions.threads import nobody

    resumable.CHUNK_SIZES = 1_000
    keep = resumable.Keep(directory=root / "sweeps", tell=lambda line: None)
    resumable.resumable_sharing(
        grams(version, 2_000),
        300,
        range(4_096, 4_096 + 3_000),
        shared=True,
        keep=keep,
        progress=lambda title, total: nullcontext(nobody),
    )


def make_cache_parts(root: Path, version: int) -> None:
    """What ``cache`` keeps: the trace while it lasts, and what was measured."""
    from ngscale.cache.kept import parts_of_run

    rows = np.random.default_rng(version).integers(0, 10**6, (20_000, 2))
    with parts_of_run(root / f"run-{version}", lambda: iter([rows]), rows.shape) as parts:
        parts.get("one", lambda read: [chunk.sum(1).tolist() for chunk in read()])


def make_stage(root: Path, version: int) -> None:
    """A plan's."""
    from ngscale.plan import stages as plan_stages
    from ngscale.records import Report

    made = plan_stages.Made(
        record=record(version), report=Report(title="t", answer="a", sections=())
    )
    stage = plan_stages.Stage(
        name="1-audit", inputs={"version": version}, make=lambda path: made, argv=("plan",)
    )
    plan_stages.carry_out(stage, root)


def make_decoded(root: Path, version: int) -> None:
    from ngscale.decode.measure import Store

    Store(root, {}).item({"version": version}, lambda: dict(record(version).results))


def make_weights(root: Path, version: int) -> None:
    """Those of a finished run."""
    import torch

    from ngscale.model.checkpoint import save_decoder
    from ngscale.model.decoder import Decoder
    from tests.model.small import DESIGN

    torch.manual_seed(version)
    save_decoder(Decoder(DESIGN), DESIGN, root / "weights")


def make_checkpoint(root: Path, version: int) -> None:
    """The one of the second version follows the one of the first."""
    import torch

    from ngscale.train_small.checkpoint import Checkpoints

    tensors = {"weight": torch.full((100_000,), float(version)), "steps": torch.tensor(version)}
    checkpoints = Checkpoints(root / "checkpoints", identity={"seed": 0})
    checkpoints.save(1 + version, tensors, {"step": 1 + version})


def make_log(root: Path, version: int) -> None:
    from ngscale.train_small.run_log import RunLog

    log = RunLog(root / "log.jsonl")
    log.resume(step=version)
    log.write(1 + version, {"values": record(version).results["values"]})


MAKES: dict[str, Make] = {
    "report": make_report,
    "record": make_record,
    "csv": make_csv,
    "command": make_command,
    "n-gram counts": make_ngrams,
    "n-gram parquet": make_parquet,
    "n-gram tasks": make_tasks,
    "token cache": make_tokens,
    "id cache": make_ids,
    "corpus": make_corpus,
    "tokenizer": make_tokenizer,
    "sweep": make_sweep,
    "cache parts": make_cache_parts,
    "plan stage": make_stage,
}
WITH_TORCH: dict[str, Make] = {
    "decoded item": make_decoded,
    "weights": make_weights,
    "checkpoint": make_checkpoint,
    "training log": make_log,
}


def forked(make: Make, root: Path, version: int, story: Path) -> int:
    """What a process of its own that makes it ends with, negative for a signal; its last words."""
    child = os.fork()
    if not child:
        with story.open("w") as file:
            os.dup2(file.fileno(), 2)
            code = 0
            try:
                make(root, version)
            except SystemExit as exit_code:
                code = int(exit_code.code or 0)
            except BaseException as error:
                code, line = cli._describe(error)
                traceback.print_exc()
                sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in ("lock", "environment.json")
    }


def tried(make: Make, disk: Path, room: float) -> dict[str, Any]:
    """The version 1 with little room, then with enough."""
    root, ballast, story = disk / "root", disk / "ballast", disk.parent / "story"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    whole = forked(make, root, 0, story)
    before = content(root)
    largest = max(map(len, before.values()))
    leave = int(-room) * PAGE if room < 0 else int(room * largest) // PAGE * PAGE
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * PAGE - leave)
    code = forked(make, root, 1, story)
    line = (story.read_text().splitlines() or [""])[-1]
    after = content(root)
    ballast.unlink()
    again = forked(make, root, 1, story)
    finished = content(root)
    return {
        "whole": whole,
        "code": code,
        "line": line,
        "lost": [name for name in before if name not in after],
        "torn": [
            name
            for name, data in after.items()
            if (name in before or name in finished) and ".partial/" not in name
            if data not in (before.get(name), finished.get(name))
        ],
        "replaced": [name for name in before if before[name] != after.get(name)],
        "temporary": [name for name in after if "/.tmp-" in f"/{name}" or "/tmp" in f"/{name}"],
        "partial": sorted({name.split(".partial/")[0] for name in after if ".partial/" in name}),
        "again": again,
        "orphans": [name for name in finished if ".tmp-" in name or ".partial" in name],
    }


def main() -> None:
    """Every case with every amount of room."""
    disk, names = Path(sys.argv[1]), sys.argv[2].split(",")
    answer_fd = os.dup(1)
    os.dup2(2, 1)  # what an attempt prints is none of the answer
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], check=True)
    report.can_draw = lambda: False  # figures are a second each
    setattr(answer, "environment", undated)  # noqa: B010
    makes = {**MAKES, **WITH_TORCH}
    found = {
        name: {room: tried(makes[name], disk, share) for room, share in ROOM.items()}
        for name in names
    }
    with os.fdopen(answer_fd, "w") as stdout:
        json.dump(found, stdout)


if __name__ == "__main__":
    main()
