"""Tokenizers by name, file, directory or hub id: text -> ids, with V0 and the file's hash.

Three kinds of file: ``tokenizer.json`` (Hugging Face, encoded by ``tokenizers``), ``tekken.json``
and tiktoken rank files ``*.tiktoken`` (both encoded by ``tiktoken``, which is faster). No special
token is ever added, and text that spells one is ordinary text to a rank file. A truncation or
padding set in a tokenizer.json is switched off.
"""

import base64
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import UInt32

from ngscale import artefacts, hub
from ngscale.config_reader import parse_config, read_config
from ngscale.errors import InputError, NetworkError, UsageError
from ngscale.tokenizer_trial import try_out

if TYPE_CHECKING:
    import tiktoken
    from tokenizers import Tokenizer as HfTokenizer

MAX_VOCAB_SIZE = 2**24
"""Sixty times the largest published vocabulary; a larger id is a broken tokenizer file."""
_MAX_FILE_BYTES = 2**28
"""Seven times the largest published tokenizer."""
DEFAULT_TOKENIZER = "bpe-32768"
_FILES = ("tokenizer.json", "tekken.json")
_GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_CL100K_SPLIT = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_O200K_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RANK_FILES: Mapping[str, tuple[str, int]] = {
    "r50k_base": (_GPT2_SPLIT, 50_257),
    "p50k_base": (_GPT2_SPLIT, 50_281),
    "cl100k_base": (_CL100K_SPLIT, 100_277),
    "o200k_base": (_O200K_SPLIT, 200_019),
}
"""Name of a rank file -> how it splits text, and its ids with the special ones; the file says
neither. From ``tiktoken_ext/openai_public.py`` of tiktoken 0.14.0 (MIT)."""
_NEVER = "<|ngscale never allows this|>"
"""tiktoken's NumPy route wants a special token to look for (without one it is half as fast); not
being allowed, it changes no id, even where a text spells it."""


class Engine(Protocol):
    """What turns texts into ids."""

    @property
    def version(self) -> str:
        """Library and version, on which ids might depend."""

    @property
    def group_chars(self) -> int:
        """How much text one call should get."""

    def encode(self, texts: Sequence[str]) -> list[UInt32[np.ndarray, " T"]]:
        """The ids of each text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HfEngine:
    """A tokenizer.json."""

    backend: "HfTokenizer"
    version: str
    group_chars: int = 2**20

    def encode(self, texts: Sequence[str]) -> list[UInt32[np.ndarray, " T"]]:
        """One batch call, which uses all cores."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankEngine:
    """Byte-pair merges by rank."""

    backend: "tiktoken.Encoding"
    version: str
    group_chars: int = 2**18

    def encode(self, texts: Sequence[str]) -> list[UInt32[np.ndarray, " T"]]:
        """One after the other; the library lets other threads run meanwhile."""
        encode = self.backend.encode_to_numpy
        return [encode(text, disallowed_special=()) for text in texts]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokenizer:
    """A tokenizer file with its V0 and its hash."""

    name: str
    sha256: str
    vocab_size: int
    """V0 = max(vocab_size of a config.json beside it, largest id + 1)."""
    engine: Engine

    @property
    def backend(self) -> "HfTokenizer":
        """The Hugging Face tokenizer.

        Raises:
            UsageError: it is a rank file.
        """
        if not isinstance(self.engine, HfEngine):
            raise UsageError(f"tokenizer {self.name}: is a rank file; this needs a tokenizer.json")
        return self.engine.backend

    def encode(self, texts: Sequence[str]) -> list[UInt32[np.ndarray, " T"]]:
        """Ids of each text, without special tokens.

        Raises:
            InputError: the tokenizer's own library fails on a text.
        """
        try:
            return self.engine.encode(texts)
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic in a Rust library is not an Exception
            start = next((text for text in texts if text), "")[:40]
            raise InputError(
                f"tokenizer {self.name}: its library fails on text near {start!r}: {_line(error)}"
            ) from error


def load_tokenizer(name: str) -> Tokenizer:
    """A tokenizer by name (embedded or built), file, directory or ``hf://owner/name``.

    Raises:
        InputError: there is none, it is not one, or an id exceeds ``MAX_VOCAB_SIZE``.
        NetworkError: the hub cannot be reached.
    """
    path = _download(name) if name.startswith(hub.PREFIX) else _find(name)
    data = _read(path)
    ours = (artefacts.embedded_dir(), artefacts.cache_dir() / artefacts.FOLDERS["tokenizer"])
    if _parser(path) is _parse_json and not any(path.is_relative_to(place) for place in ours):
        try_out(path, data)
    with _panics_refused(path):
        engine, num_ids = _parser(path)(path, data)
    vocab_size = max(num_ids, _config_vocab_size(path.parent / "config.json"))
    _check_cap(path, vocab_size)
    short_name = path.parent.name if path.name in _FILES else path.name
    loaded = Tokenizer(
        name=name.removeprefix(hub.PREFIX) if name.startswith(hub.PREFIX) else short_name,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=vocab_size,
        engine=engine,
    )
    with _panics_refused(path):
        engine.encode(["A trial, of 1 line:\n"])
    return loaded


def _read(path: Path) -> bytes:
    try:
        if (num_bytes := path.stat().st_size) > _MAX_FILE_BYTES:
            raise InputError(f"{path}: has {num_bytes} bytes; at most {_MAX_FILE_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _check_cap(path: Path, vocab_size: int) -> None:
    if vocab_size > MAX_VOCAB_SIZE:
        raise InputError(f"{path}: id {vocab_size - 1} is beyond the cap of {MAX_VOCAB_SIZE} ids")


def _find(name: str) -> Path:
    """The tokenizer file a name means: embedded, on disk, built."""
    embedded = artefacts.embedded_dir() / "tokenizers" / name / "tokenizer.json"
    if Path(name).name == name and embedded.is_file():
        return embedded
    path = Path(name)
    if path.is_file():
        return path
    if not path.exists() and (artefact := artefacts.find(name, "tokenizer")):
        if not artefact.is_built:
            raise InputError(f"{name}: not built yet; run: ngscale corpora build {name}")
        path = artefact.built_dir
    candidates = [path / file for file in _FILES]
    if path.is_dir():
        candidates += sorted(path.glob("*.tiktoken"))
    if found := [file for file in candidates if file.is_file()]:
        return found[0]
    if (path / "tokenizer.model").is_file():
        raise InputError(f"{name}: has only a SentencePiece tokenizer.model; save a tokenizer.json")
    known = ", ".join(a.name for a in artefacts.manifest() if a.kind == "tokenizer")
    raise InputError(f"{name}: no tokenizer.json, tekken.json or .tiktoken there; by name: {known}")


def _download(name: str) -> Path:
    """The tokenizer.json, else tekken.json, of a hub id; its config.json is fetched beside it."""
    from huggingface_hub import errors, hf_hub_download

    repository = name.removeprefix(hub.PREFIX)
    for file in _FILES:
        try:
            found = Path(hf_hub_download(repository, file))
        except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError) as error:
            if file == _FILES[-1]:
                raise InputError(
                    f"{name}: no {' or '.join(_FILES)} there: {hub.told(error)}"
                ) from error
            continue
        except errors.HFValidationError as error:
            raise InputError(f"{name}: is no hub id: {hub.told(error)}") from error
        except OSError as error:
            raise NetworkError(f"{name}: cannot be reached: {hub.told(error)}") from error
        break
    try:
        hf_hub_download(repository, "config.json")
    except errors.EntryNotFoundError:
        pass
    except OSError as error:
        raise NetworkError(f"{name}: cannot be reached: {hub.told(error)}") from error
    return found


@contextmanager
def _panics_refused(path: Path) -> Iterator[None]:
    """Whatever a library raises, or panics with, as one line; its own backtrace is not shown."""
    kinds: Mapping[object, str] = {_parse_ranks: "rank file", _parse_tekken: "tekken.json"}
    kind = kinds.get(_parser(path), "tokenizer.json")
    try:
        with stderr_closed():
            yield
    except (KeyboardInterrupt, SystemExit, MemoryError, InputError):
        raise
    except BaseException as error:  # a panic in a Rust library is not an Exception
        raise InputError(f"{path}: is not a {kind}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """What a library says, as one line can show it: it quotes the file, whatever is there."""
    text = " ".join(str(error).split())
    return (text if text.isprintable() else ascii(text)[1:-1])[:300]


@contextmanager
def stderr_closed() -> Iterator[None]:
    """File descriptor 2 on /dev/null: a panic writes there before Python hears of it."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed already
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _parser(path: Path) -> Callable[[Path, bytes], tuple[Engine, int]]:
    """What makes the engine of a file of this name, and the largest id + 1."""
    if path.suffix == ".tiktoken":
        return _parse_ranks
    return _parse_tekken if path.name.startswith("tekken") else _parse_json


def _parse_json(path: Path, data: bytes) -> tuple[Engine, int]:
    import tokenizers

    backend = tokenizers.Tokenizer.from_buffer(data)
    backend.no_truncation()
    backend.no_padding()
    ids = backend.get_vocab(with_added_tokens=True).values()
    if not ids:
        raise InputError(f"{path}: the tokenizer has no ids")
    return HfEngine(backend=backend, version=f"tokenizers {tokenizers.__version__}"), max(ids) + 1


def _parse_tekken(path: Path, data: bytes) -> tuple[Engine, int]:
    """Mistral's format: byte strings by rank, after the special ids.

    An id is rank + ``default_num_special_tokens``; ranks that would go beyond
    ``default_vocab_size`` are dropped (mistral-common, ``tokens/tokenizers/tekken.py``).
    """
    reader = parse_config(data, str(path), "tekken.json")
    config = reader.object("config")
    num_special = config.whole("default_num_special_tokens", minimum=0, maximum=2**63)
    vocab_size = config.whole("default_vocab_size", maximum=2**63)
    _check_cap(path, vocab_size)
    pattern, vocab = config.values.get("pattern"), reader.values.get("vocab")
    if not isinstance(pattern, str):
        raise config.fail("pattern", "must be a regular expression")
    if not isinstance(vocab, list):
        raise reader.fail("vocab", "must be a list")
    ids: dict[bytes, int] = {}
    for number, entry in enumerate(vocab):
        try:
            token, rank = base64.b64decode(entry["token_bytes"], validate=True), entry["rank"]
        except (KeyError, TypeError, ValueError) as error:
            raise reader.fail(f"vocab[{number}]", "must have base64 token_bytes, rank") from error
        if type(rank) is not int or rank < 0 or not token:
            raise reader.fail(f"vocab[{number}]", "must have a token of bytes and a rank from 0")
        token_id = rank + num_special
        if token_id < vocab_size and ids.setdefault(token, token_id) != token_id:
            raise reader.fail(f"vocab[{number}]", "has the token_bytes of another")
    return _rank_engine(path, ids, pattern), vocab_size


def _parse_ranks(path: Path, data: bytes) -> tuple[Engine, int]:
    """The format of tiktoken: per line a token's bytes in base 64 and its rank, which is its id."""
    if path.stem not in RANK_FILES:
        raise InputError(
            f"{path}: a rank file does not say how it splits text; known by name are "
            f"{', '.join(RANK_FILES)}; for another, use the model's tokenizer.json"
        )
    split, num_ids = RANK_FILES[path.stem]
    ids: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            token, rank = line.split()
            if not rank.isdigit():
                raise ValueError(rank)
            if ids.setdefault(base64.b64decode(token, validate=True), int(rank)) != int(rank):
                raise InputError(f"{path}: line {number} has the token of another line")
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no base64 token and rank") from error
    return _rank_engine(path, ids, split), max(num_ids, max(ids.values()) + 1)


def _rank_engine(path: Path, ids: Mapping[bytes, int], split: str) -> Engine:
    import tiktoken

    missing = [byte for byte in range(256) if bytes([byte]) not in ids]
    if missing:
        raise InputError(f"{path}: has no token for byte {missing[0]}; text would be lost")
    if len(set(ids.values())) != len(ids) or min(ids.values()) < 0:
        raise InputError(f"{path}: two tokens have the same rank, or one is negative")
    largest = max(ids.values())
    _check_cap(path, largest + 1)
    backend = tiktoken.Encoding(
        path.stem,
        pat_str=split,
        mergeable_ranks=dict(ids),
        special_tokens={_NEVER: largest + 1},
    )
    return RankEngine(backend=backend, version=f"tiktoken {tiktoken.__version__}")


def _config_vocab_size(path: Path) -> int:
    """``vocab_size`` of a config.json beside the tokenizer; 0 where there is none."""
    if not path.is_file():
        return 0
    reader = read_config(path)
    if "vocab_size" not in reader.values and reader.values.get("text_config"):
        reader = reader.object("text_config")
    return reader.whole("vocab_size", minimum=0, maximum=2**63, default=0)
