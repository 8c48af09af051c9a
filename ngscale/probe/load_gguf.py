"""A decoder of a GGUF file, dequantised by transformers to float32, and its tokenizer."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from torch import nn

from ngscale.errors import InputError, MissingExtraError, NgscaleError
from ngscale.probe.load_transformers import LOADING, loaded, quiet
from ngscale.probe.memory import is_out_of_memory
from ngscale.safetensors_header import inside
from ngscale.tokenizer import stderr_closed
from ngscale.tokens import Tokenizer, load_tokenizer

_SUFFIX = ".gguf"


def find_gguf(place: Path) -> Path | None:
    """``place`` where it is a GGUF file, or the only one of a directory without safetensors.

    Raises:
        InputError: there are several.
        UnsafeInputError: it is a link that leads out of the directory.
    """
    if place.suffix == _SUFFIX and place.is_file():
        return place
    if not place.is_dir() or any(place.glob("*.safetensors*")):
        return None
    found = sorted(path.name for path in place.glob(f"*{_SUFFIX}"))
    if len(found) > 1:
        raise InputError(
            f"{place}: holds {len(found)} GGUF files ({', '.join(found[:3])}); name one of them"
        )
    return inside(place, found[0]) if found else None


def load_gguf(path: Path) -> nn.Module:
    """The decoder, every weight dequantised.

    Raises:
        InputError: it is malformed, or transformers knows no such architecture.
        MissingExtraError: a package that reads it is not installed.
    """
    _check_extra()

    def load(transformers: Any) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=transformers.GgufConfig(dequantize=True),
            local_files_only=True,
            trust_remote_code=False,
            **LOADING,
        )

    with _errors_of(path), redirect_stderr(StringIO()):  # a bar that no setting turns off
        return loaded(path, load)


def gguf_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that the file carries.

    Raises:
        InputError, MissingExtraError: as ``load_gguf``.
    """
    _check_extra()
    import transformers

    auto_class: Any = transformers.AutoTokenizer
    with _errors_of(path), stderr_closed(), quiet(), tempfile.TemporaryDirectory() as scratch:
        auto_class.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
        ).save_pretrained(scratch)
        return replace(load_tokenizer(scratch), name=path.stem)


def _check_extra() -> None:
    for package in ("transformers", "gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "hf")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Refuse what is no GGUF; the parser refuses malformed files in many words."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise InputError(f"{path}: is no GGUF file: starts with {ascii(magic)[2:-1]!r}")
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError, NgscaleError):
        raise
    except BaseException as error:  # a panic in a Rust library is not an Exception
        if is_out_of_memory(error):
            raise
        problem = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: cannot be read as GGUF: {problem}") from error
