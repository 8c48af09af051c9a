"""Weights that are malformed, lead elsewhere or would run code: every reader, through its verb.

Readers: ``budget --checkpoint`` (headers), ``decode`` (whole), ``probe`` (whole, ``--stream``,
``--tables``), a draft head, and the checkpoints that ``train-small`` resumes from.
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from typer.testing import CliRunner

from ngscale.cli import app
from ngscale.decode.subject import load_subject
from ngscale.decode.table_head import read_head
from ngscale.design import design_config
from ngscale.errors import InputError, NgscaleError
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.run_checkpoint import Saved, load_tensors, sizes
from ngscale.model.stored import open_tensors
from ngscale.probe.load import load_checkpoint
from ngscale.probe.table_files import find_tables
from ngscale.records import dump_json
from ngscale.safetensors_header import read_headers
from ngscale.train_small.checkpoint import Checkpoints
from tests.model.small import DESIGN, SPEC
from tests.probe.models import edit_config, save_random
from tests.reliability.forked import judge_all
from tests.safetensors_files import MALFORMED, mutate, ours, sound, theirs, write_raw, write_tensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = "part-1.safetensors"


def save_own(directory: Path) -> Path:
    decoder = Decoder(DESIGN)
    decoder.initialise(0)
    save_decoder(decoder, DESIGN, directory)
    return directory


def save_head(directory: Path) -> Path:
    head = {"down.weight": torch.ones(4, 32), "up.weight": torch.ones(64, 4)}
    (directory / WEIGHTS).write_bytes(save(head, metadata={"identity": "{}", "steps": "0"}))
    return directory


TRAINED = {"model.a.weight": torch.ones(6, 4), "model.b.weight": torch.ones(5)}


def save_trained(directory: Path) -> Path:
    """As a training run keeps it: the shard is renamed, so that all readers find it by one name."""
    kept = Checkpoints(directory / "kept", identity={"seed": 0})
    kept.save(2, dict(TRAINED), {})
    (found,) = (directory / "kept" / "step-00000002").glob("*.safetensors")
    found.rename(directory / WEIGHTS)
    shutil.rmtree(directory / "kept")
    return directory


def resume(directory: Path) -> None:
    """What ``train-small`` and ``probe --series`` do with a checkpoint."""
    saved = Saved(path=directory, document={})
    found = sizes(saved)
    targets = {name: torch.zeros_like(tensor) for name, tensor in TRAINED.items()}
    if found == {name: (t.dtype, t.shape) for name, t in targets.items()}:
        load_tensors(saved, dict(targets))


def probe(directory: Path, *, stream: bool = False) -> None:
    checkpoint = load_checkpoint(directory, device="cpu", stream=stream)
    checkpoint.run(torch.ones(1, 4, dtype=torch.int64))


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object], int]] = {
    "headers": (save_own, read_headers, 200),
    "decode": (save_own, partial(load_subject, device="cpu", dtype="float32"), 300),
    "probe": (save_own, probe, 100),
    "probe --stream": (save_own, partial(probe, stream=True), 100),
    "probe --tables": (save_own, find_tables, 200),
    "probe of a Llama": (partial(save_random, "llama"), probe, 50),
    "a draft head": (
        save_head,
        lambda d: read_head(d / WEIGHTS, hidden_size=32, vocab_size=64),
        300,
    ),
    "a run taken up": (save_trained, resume, 150),
}
"""How a checkpoint for it is made, what reads it, and how many mutations of it are read."""
NUM_HEADERS = 3600
"""Mutations of one small file that are judged beside the safetensors package; 5,000 in all."""


def test_five_thousand_mutations_are_read() -> None:
    assert NUM_HEADERS + sum(number for _, _, number in READERS.values()) == 5000


# -- mutations ---------------------------------------------------------------------------------

STRICTER = (
    *("appears twice", "must have exactly", "must be an object", "shape: must be"),
    *("is a path, not a tensor name", "cannot be printed", "header: starts with", "strides"),
)
"""What is refused here and read by the safetensors package: repeated keys, unknown fields, null
metadata, sizes of 2**40 in tensors without data, names that are paths, blanks before the header.
"""


def beside_the_package(seed: int) -> str:
    data = mutate(sound(), random.Random(seed))
    start = time.process_time()
    here, there = ours(data), theirs(data)
    if time.process_time() - start > 1:
        return "takes more than a second"
    if not isinstance(here, str):
        # "-0" is a whole number to JSON, but none to the package
        return "read" if here == there or (there is None and b"-0" in data) else "they differ"
    if not here.startswith("s: ") or not here.isprintable():
        return f"more than one line: {here!r}"
    if there is None:
        return "refused"
    return "stricter" if any(reason in here for reason in STRICTER) else f"why? {here}"


def test_mutations_are_judged_as_by_the_safetensors_package_or_more_strictly() -> None:
    verdicts = Counter(judge_all(range(NUM_HEADERS), beside_the_package))
    assert set(verdicts) == {"read", "refused", "stricter"}, verdicts
    assert min(verdicts.values()) >= 100, verdicts


def verdict_of(read: Callable[[Path], object], directory: Path) -> str:
    """``read``, an exit code, or in words what went wrong."""
    start = time.process_time()
    try:
        read(directory)
    except NgscaleError as error:
        line = str(error)
        if error.exit_code not in (3, 4, 9) or str(directory) not in line:
            return f"{error.exit_code}: {line}"
        if not line.isprintable() or len(line) > 600 + len(str(directory)):
            return f"no line: {line!r}"
        verdict = str(error.exit_code)
    except BaseException as error:  # also what no Exception is
        return f"{type(error).__name__}: {error}"[:300]
    else:
        verdict = "read"
    return verdict if time.process_time() - start < 1 else "takes more than a second"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("reader", READERS)
def test_mutations_are_read_or_refused_by_every_reader(reader: str, tmp_path: Path) -> None:
    make, read, number = READERS[reader]
    for name in ("0", "1"):  # a directory for each process
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    data = (tmp_path / "0" / WEIGHTS).read_bytes()
    assert verdict_of(read, tmp_path / "0") == "read"

    def judge(seed: int) -> str:
        torch.set_num_threads(1)
        directory = tmp_path / str(seed % 2)
        (directory / WEIGHTS).write_bytes(mutate(data, random.Random(seed)))
        return verdict_of(read, directory)

    verdicts = Counter(judge_all(range(number), judge))
    assert set(verdicts) <= {"read", "3", "4", "9"}, verdicts
    assert verdicts["read"] >= number / 100, verdicts
    assert verdicts["3"] >= number / 2, verdicts


NUM_GGUF = 40


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_gguf_files_are_read_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="needs the hf extra's gguf")
    from tests.probe.test_load_gguf import save_gguf

    data = save_gguf(tmp_path / "a.gguf").read_bytes()
    num_header_bytes = data.index(b"blk.0.attn_q") + 600

    def read(directory: Path) -> None:
        load_checkpoint(directory / "a.gguf", device="cpu")

    def judge(seed: int) -> str:
        torch.set_num_threads(1)
        draw, changed = random.Random(seed), bytearray(data)
        for _ in range(draw.choice([1, 1, 2])):
            place, width = draw.randrange(num_header_bytes), draw.choice([1, 1, 4, 8])
            values = bytes([draw.randrange(256)]) * width, b"\xff" * width, bytes(width)
            changed[place : place + width] = draw.choice(values)
        directory = tmp_path / str(seed)
        directory.mkdir()
        (directory / "a.gguf").write_bytes(changed)
        return verdict_of(read, directory)

    read(tmp_path)
    verdicts = Counter(judge_all(range(NUM_GGUF), judge))
    assert set(verdicts) <= {"read", "3", "9"}, verdicts
    assert min(verdicts["read"], verdicts["3"]) >= 2, verdicts


# -- the verbs ---------------------------------------------------------------------------------

VERBS: dict[str, Callable[[Path], list[object]]] = {
    "budget": lambda d: ["budget", "--checkpoint", d],
    "decode": lambda d: ["decode", d, "--device", "cpu"],
    "probe": lambda d: ["probe", d, "--device", "cpu"],
    "probe --tables": lambda d: ["probe", d, "--tables"],
}


def refuse(verb: str, directory: Path, code: int) -> str:
    """The one line on stderr, and nothing on stdout."""
    for _ in range(2):  # collecting the garbage of other tests is none of the verb's
        start = time.process_time()
        done = CliRunner().invoke(app, [str(word) for word in VERBS[verb](directory)])
        if (taken := time.process_time() - start) < 1:
            break
    assert taken < 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("loading ")]
    assert (done.exit_code, done.stdout, len(lines)) == (code, "", 1), done.output
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module", autouse=True)
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a verb imports is not timed."""
    for argv in VERBS.values():
        nowhere = tmp_path_factory.mktemp("nowhere") / "none"
        CliRunner().invoke(app, [str(word) for word in argv(nowhere)])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of our own; not to be changed."""
    return save_own(tmp_path_factory.mktemp("own"))


@pytest.fixture
def own(shared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared, tmp_path / "own"))


def test_fifty_malformed_files_are_at_hand() -> None:
    assert len(MALFORMED) >= 40


@pytest.mark.parametrize("verb", VERBS)
def test_malformed_weights_are_one_line_that_names_file_and_field(verb: str, own: Path) -> None:
    for header, num_data_bytes, problem in MALFORMED.values():
        write_raw(own / WEIGHTS, header, num_data_bytes)
        line = refuse(verb, own, 3)
        assert f"{own / WEIGHTS}: " in line
        assert " ".join(problem.split()) in line  # one line has single blanks


@pytest.mark.parametrize("verb", VERBS)
def test_a_tensor_with_the_name_of_a_path_is_unsafe(verb: str, own: Path) -> None:
    tensors = load_file(own / WEIGHTS) | {"../../etc/passwd": torch.zeros(1)}
    save_file(tensors, own / WEIGHTS)
    assert f"{WEIGHTS}: header: ../../etc/passwd: is a path" in refuse(verb, own, 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("verb", ["decode", "probe", "probe --tables"])
def test_a_number_that_is_not_finite_is_malformed(verb: str, value: float, own: Path) -> None:
    tensors = load_file(own / WEIGHTS)
    name = "embed_tokens.tables.weight"
    tensors[name][3, 1] = tensors[name][4, 0] = value
    save_file(tensors, own / WEIGHTS)
    problem = f"{name}: [3, 1]: is {value}, must be a finite float32; get the file again"
    assert refuse(verb, own, 3) == f"error: {own / WEIGHTS}: {problem}"


TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
TYPES += [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_looked_through(dtype: torch.dtype, tmp_path: Path) -> None:
    """The last number of a second part; of float64 also what float32 cannot hold."""
    path = tmp_path / WEIGHTS
    save_file({"a": torch.ones(3, 2**20, dtype=dtype)}, path)
    for planted in (float("nan"), *([1e300] if dtype == torch.float64 else [])):
        number = torch.tensor([planted], dtype=torch.float64).to(dtype)
        with path.open("r+b") as file:
            file.seek(-dtype.itemsize, os.SEEK_END)
            file.write(number.view(torch.uint8).numpy().tobytes())
        with pytest.raises(InputError, match=rf"a: \[2, 1048575\]: is {re.escape(f'{planted:g}')}"):
            open_tensors(path)["a"].to(dtype=torch.float32)


# -- memory ------------------------------------------------------------------------------------

LARGE = 2**26


def _late_nan(own: Path) -> None:
    """The last number of the file."""
    with (own / WEIGHTS).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\x00\x00\xc0\x7f")


LARGE_FILES: dict[str, Callable[[Path], None]] = {
    "cut off": lambda own: os.truncate(own / WEIGHTS, LARGE),
    "longer": lambda own: os.truncate(own / WEIGHTS, 2 * LARGE),
    "of another design": lambda own: edit_config(own, hidden_size=64),
    "of more layers": lambda own: edit_config(own, num_hidden_layers=900),
    "a number that is not finite": _late_nan,
}


def peak_bytes() -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("reader", ["headers", "decode", "probe", "probe --stream"])
def test_memory_stays_below_twice_the_file(reader: str, own: Path, tmp_path: Path) -> None:
    width = DESIGN.model.hidden_size // SPEC.num_tables
    rows = LARGE // (4 * width)
    large = replace(DESIGN, ngrams=(replace(SPEC, table_rows=(rows, 163, 167, 169)),))
    with torch.device("meta"):
        shapes = {name: list(w.shape) for name, w in Decoder(large).state_dict().items()}
    (own / "config.json").write_text(dump_json(design_config(large)))
    (own / WEIGHTS).unlink()
    _, read, _ = READERS[reader]
    damages = list(LARGE_FILES.values())

    def judge(case: int) -> str:
        torch.set_num_threads(1)
        place = Path(shutil.copytree(own, tmp_path / f"case-{case}"))
        write_tensors(
            place / WEIGHTS, {name: ("F32", shape) for name, shape in sorted(shapes.items())}
        )
        damages[case](place)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = peak_bytes()
        verdict = verdict_of(read, place)
        taken = (peak_bytes() - before) / (place / WEIGHTS).stat().st_size
        shutil.rmtree(place)
        return verdict if taken < 2 else f"{verdict}: {taken:.2f} times the file"

    verdicts = judge_all(range(len(damages)), judge)
    wanted = ["3", "3", "3", "3", "3"]
    if reader == "headers":  # neither config.json nor a weight is read
        wanted = ["3", "3", "read", "read", "read"]
    assert verdicts == wanted


# -- escapes -----------------------------------------------------------------------------------


def _index(name: str) -> Callable[[Path, Path], None]:
    def write(own: Path, outside: Path) -> None:
        tensors = list(load_file(own / WEIGHTS))
        (own / WEIGHTS).rename(outside / SHARD)
        named = name.replace("OUTSIDE", str(outside))
        (own / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, named)}))

    return write


def _link(file: str) -> Callable[[Path, Path], None]:
    def write(own: Path, outside: Path) -> None:
        _index(SHARD)(own, outside)
        (outside / SHARD).rename(own / SHARD)
        (own / file).rename(outside / file)
        (own / file).symlink_to(outside / file)

    return write


def _linked_weights(own: Path, outside: Path) -> None:
    (own / WEIGHTS).rename(outside / WEIGHTS)
    (own / WEIGHTS).symlink_to(outside / WEIGHTS)


ESCAPES: dict[str, Callable[[Path, Path], None]] = {
    "parent": _index(f"../outside/{SHARD}"),
    "parent of a folder": _index(f"sub/../../outside/{SHARD}"),
    "absolute": _index(f"OUTSIDE/{SHARD}"),
    "NUL": _index(f"{SHARD}\0.safetensors"),
    "address": _index(f"https://example.org/{SHARD}"),
    "address of a file": _index(f"file://OUTSIDE/{SHARD}"),
    "%2e": _index(f"%2e%2e%2foutside%2f{SHARD}"),
    "backslashes": _index(f"..\\outside\\{SHARD}"),
    "drive": _index(f"C:{SHARD}"),
    "home": _index(f"~{SHARD}"),
    "link to a shard": _link(SHARD),
    "link to an index": _link(INDEX),
    "link to weights": _linked_weights,
    "link to a config": _link("config.json"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_outside_the_directory_is_opened(verb: str, own: Path, tmp_path: Path) -> None:
    names = list(ESCAPES)

    def judge(case: int) -> str:
        place = Path(shutil.copytree(own, tmp_path / f"case-{case}" / "own"))
        outside = tmp_path / f"case-{case}" / "outside"
        outside.mkdir()
        ESCAPES[names[case]](place, outside)
        opened: list[str] = []

        def audit(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
                real = os.path.realpath(os.fsdecode(args[0]))
                if real.startswith(str(outside)):
                    opened.append(real)

        sys.addaudithook(audit)  # for good, in this process of its own
        line = refuse(verb, place, 4)
        return f"opened {opened[0]}" if opened else line

    for name, line in zip(names, judge_all(range(len(names)), judge), strict=True):
        assert line.startswith("error: "), (name, line)
        assert "lies outside the directory" in line or "leads outside the directory" in line, name


# -- pickles and code --------------------------------------------------------------------------


class Calls:
    """Pickled as a call; unpickled, it is made."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def _saved(what: object, path: Path, *, zipped: bool = True) -> None:
    torch.save({"model.norm.weight": what}, path, _use_new_zipfile_serialization=zipped)


def _inner(canary: Path) -> bytes:
    """A pickle within a pickle, of PyTorch's own loader."""
    path = canary.with_name("inner")
    _saved(Calls(os.mkdir, str(canary)), path)
    data = path.read_bytes()
    path.unlink()
    return data


def _tar(path: Path, canary: Path) -> None:
    """PyTorch's oldest format, whose parts are pickles of their own (CVE-2025-32434)."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            data = f"cos\nmkdir\n(S'{canary}'\ntR.".encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _touch(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


GADGETS: dict[str, Callable[[Path, Path], object]] = {
    "os.mkdir": lambda path, canary: _saved(Calls(os.mkdir, str(canary)), path),
    "the format before zip": lambda path, canary: _saved(
        Calls(os.mkdir, str(canary)), path, zipped=False
    ),
    "exec": lambda path, canary: _saved(Calls(exec, _touch(canary)), path),
    "eval": lambda path, canary: _saved([Calls(eval, _touch(canary))], path),
    "os.system": lambda path, canary: _saved(Calls(os.system, f"touch {canary}"), path),
    "a method of a path": lambda path, canary: _saved(Calls(Path.mkdir, canary), path),
    "map": lambda path, canary: _saved(Calls(list, Calls(map, os.mkdir, [str(canary)])), path),
    "protocol 0": lambda path, canary: path.write_bytes(f"cos\nmkdir\n(S'{canary}'\ntR.".encode()),
    "INST": lambda path, canary: path.write_bytes(f"(S'{canary}'\nios\nmkdir\n.".encode()),
    "PyTorch's own loader": lambda path, canary: _saved(
        Calls(torch.storage._load_from_bytes, _inner(canary)), path
    ),
    "a tar of pickles": _tar,
}
"""Each makes ``canary`` where it is unpickled."""


@pytest.mark.filterwarnings("ignore")
def test_ten_gadgets_would_run(tmp_path: Path) -> None:
    assert len(GADGETS) >= 10
    for number, (name, gadget) in enumerate(GADGETS.items()):
        canary = tmp_path / f"canary-{number}"
        gadget(tmp_path / "x.bin", canary)
        assert not canary.exists()
        with contextlib.suppress(Exception):  # a call is no tensor, but it was made
            torch.load(tmp_path / "x.bin", weights_only=False)
        assert canary.exists(), name


@pytest.mark.parametrize("gadget", GADGETS)
def test_no_pickle_is_run(gadget: str, own: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (own / WEIGHTS).unlink()
    GADGETS[gadget](own / "pytorch_model.bin", canary)
    for verb in VERBS:
        assert "pytorch_model.bin" in refuse(verb, own, 4)
    (own / "pytorch_model.bin").rename(own / WEIGHTS)  # under a name that is read
    for verb in VERBS:
        assert f"{WEIGHTS}: " in refuse(verb, own, 3)
    assert not canary.exists()


@pytest.mark.parametrize("gadget", GADGETS)
def test_no_pickle_is_run_where_pickled_tensors_are_asked_for(
    gadget: str, llama: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    (llama / WEIGHTS).unlink()
    GADGETS[gadget](llama / "pytorch_model.bin", canary)
    done = CliRunner().invoke(app, ["probe", str(llama), "--allow-pickle", "--device", "cpu"])
    assert done.exit_code in (3, 4), done.output
    assert done.stderr.splitlines()[-1].startswith(f"error: {llama}: ")
    assert not canary.exists()


@pytest.fixture(scope="module")
def shared_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def llama(shared_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_llama, tmp_path / "llama"))


CODE = {"AutoConfig": "modeling_canary.X", "AutoModelForCausalLM": "modeling_canary.X"}
REMOTE_CODE: dict[str, dict[str, object]] = {
    "of a known model": {"auto_map": CODE},
    "of a model that only it knows": {"auto_map": CODE, "model_type": "canary"},
    "in a config within the config": {"text_config": {"model_type": "llama", "auto_map": CODE}},
    "attention from the hub": {"attn_implementation": "owner/canary"},
}


@pytest.fixture
def never_imported(tmp_path: Path) -> Iterator[str]:
    """Code that makes ``canary``."""
    yield _touch(tmp_path / "canary")
    assert not (tmp_path / "canary").exists()
    assert not [name for name in sys.modules if "modeling_canary" in name]


@pytest.mark.parametrize("config", REMOTE_CODE)
def test_remote_code_is_never_imported(config: str, llama: Path, never_imported: str) -> None:
    edit_config(llama, **REMOTE_CODE[config])
    (llama / "modeling_canary.py").write_text(f"{never_imported}\nclass X: pass\n")
    assert "config.json: " in refuse("probe", llama, 4)
    for argv in (
        *(["budget", llama / "config.json"], ["budget", "--checkpoint", llama]),
        *(["audit", llama / "config.json"], ["decode", llama], ["probe", llama, "--tables"]),
    ):
        done = CliRunner().invoke(app, [str(word) for word in argv])
        assert done.exit_code in (0, 3), done.output


def test_what_our_own_decoder_is_called_elsewhere_is_not_asked(
    own: Path, never_imported: str
) -> None:
    """LongCat's config.json names code of its own, which is never needed."""
    (own / "modeling_canary.py").write_text(f"{never_imported}\nclass X: pass\n")
    edit_config(own, auto_map=CODE)
    READERS["decode"][1](own)
    probe(own)
