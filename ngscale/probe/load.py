"""A checkpoint directory -> a decoder in float32 that can be run and hooked.

Two kinds: the project's own (``ngscale.model.checkpoint``) and any decoder transformers knows. Only
safetensors are read, unless pickled tensors are asked for, and only transformers' own classes are
run: no remote code.
"""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - what torch.load raises; nothing is unpickled
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ngscale.config_reader import ConfigReader, read_config
from ngscale.console import say
from ngscale.design import Design
from ngscale.errors import (
    InputError,
    MissingExtraError,
    NoResultError,
    ResourceError,
    UnsafeInputError,
    UsageError,
)
from ngscale.model.checkpoint import CONFIG_NAME, load_decoder
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.probe.structure import Structure, find_structure
from ngscale.safetensors_header import inside, weight_files
from ngscale.spec import Amplification

PICKLE_NAME = "pytorch_model.bin"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A decoder in evaluation mode, float32, on ``device``."""

    name: str
    model_type: str
    is_own: bool
    """Whether it is ngscale's own decoder."""
    hidden_size: int
    vocab_size: int
    max_tokens: int | None
    """``max_position_embeddings``, where the config has it."""
    amplification: Amplification
    """Of an n-gram checkpoint of our own; ``none`` where the config says nothing."""
    structure: Structure
    run: Callable[[Tensor], object]
    """Runs the whole stream for token ids (1, T)."""
    logits: Callable[[Tensor], Tensor] | None
    """The same, and what lm_head makes of it (1, T, V0); None of a model that is run but once."""
    device: torch.device
    files: dict[str, str]
    """File name -> sha256 of config and weights."""


def load_checkpoint(directory: Path, *, device: str, allow_pickle: bool = False) -> Checkpoint:
    """Load a checkpoint whole; ``device`` is ``auto``, or what torch calls one.

    ``allow_pickle`` takes pytorch_model.bin where there are no safetensors, tensors only
    (``torch.load(weights_only=True)``).

    Raises:
        InputError: something is missing, malformed or of an unknown architecture.
        UnsafeInputError: loading it would run code or leave the directory.
        NoResultError: a weight is not finite.
        MissingExtraError: transformers is needed and not installed.
        ResourceError: it does not fit in memory.
    """
    target = pick_device(device)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; probe takes a checkpoint's directory")
    config_path = directory / CONFIG_NAME
    reader = read_config(config_path)
    model_type = reader.values.get("model_type")
    if not isinstance(model_type, str):
        raise reader.fail("model_type", "is missing, so this is not a model's config")
    if "auto_map" in reader.values:
        raise UnsafeInputError(
            f"{reader.source}: auto_map: the model needs code from its directory, and probe runs "
            "none; use a transformers release that has the architecture built in"
        )
    files = _weights(directory, allow_pickle=allow_pickle)
    model: nn.Module
    design: Design | None = None
    with memory_errors(f"{directory} in float32"):
        if model_type == DECODER_MODEL_TYPE:
            model, design = load_decoder(directory)
        else:
            model = _load_transformers(directory, reader, pickled=files[0].name == PICKLE_NAME)
        model.to(target)
    _check_finite(model, directory)
    structure = find_structure(model, str(directory))
    vocab_size, hidden_size = _sizes(structure, design)
    ngram = None if design is None else design.ngram
    longest = reader.values.get("max_position_embeddings")
    return Checkpoint(
        name=directory.resolve().name,
        model_type=model_type,
        is_own=design is not None,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        max_tokens=longest if isinstance(longest, int) else None,
        amplification="none" if ngram is None else ngram.amplification,
        structure=structure,
        run=_runner(structure.backbone) if design is None else model,
        logits=_head_runner(model) if design is None else model,
        device=target,
        files={path.name: _sha256(path) for path in (config_path, *files)},
    )


def _weights(directory: Path, *, allow_pickle: bool) -> list[Path]:
    """The files of the weights; a pickled one only where asked and where there is no other."""
    pickled = inside(directory, PICKLE_NAME)
    if pickled.is_file() and not any(directory.glob("*.safetensors*")):
        if allow_pickle:
            return [pickled]
        raise UnsafeInputError(
            f"{directory}: has only pickled weights ({PICKLE_NAME}), which can run code when read; "
            "convert them to safetensors, or opt in with --allow-pickle, which reads tensors only"
        )
    return weight_files(directory)


def _sizes(structure: Structure, design: Design | None) -> tuple[int, int]:
    """V0 and D; of a transformers model as its embedding has them, padding rows included."""
    if design is not None:
        return design.model.vocab_size, design.model.hidden_size
    vocab_size, hidden_size = structure.embed_tokens.get_parameter("weight").shape
    return vocab_size, hidden_size


@contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """PyTorch's ways to be out of memory -> ResourceError; on the CPU only the text says so.

    Raises:
        ResourceError: ``what`` does not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if _is_out_of_memory(error):
            raise ResourceError(f"{what} does not fit in memory; probe a smaller model") from error
        raise


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        UsageError: torch knows no such device, or has none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: cannot be used here: {first}") from error
    return device


def _load_transformers(directory: Path, reader: ConfigReader, *, pickled: bool) -> nn.Module:
    if "quantization_config" in reader.values:
        raise reader.fail("quantization_config", "probe reads no quantised weights; convert first")
    try:
        import transformers
        from huggingface_hub.errors import StrictDataclassError
    except ModuleNotFoundError as error:
        raise MissingExtraError("transformers", "hf") from error
    auto_class: Any = transformers.AutoModelForCausalLM
    try:
        with _quiet():
            model, info = auto_class.from_pretrained(
                directory,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=not pickled,
                weights_only=True,
                output_loading_info=True,
            )
    except UnpicklingError as error:
        raise UnsafeInputError(
            f"{directory}: {PICKLE_NAME}: holds more than tensors, which probe does not read: "
            f"{str(error).split('Trying to load ')[-1].splitlines()[0]}"
        ) from error
    except SafetensorError as error:
        raise InputError(f"{directory}: the safetensors weights are broken: {error}") from error
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
        *(ImportError, RuntimeError, StrictDataclassError),
    ) as error:  # whatever a wrong value in config.json sets off inside transformers
        if _is_out_of_memory(error):
            raise
        raise InputError(f"{directory}: transformers cannot load it: {_brief(error)}") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{directory}: {missing[0]}: is not in the weights ({len(missing)} are missing); "
            "config.json is of another model"
        )
    if unused := sorted(info["unexpected_keys"]):
        say(f"{len(unused)} tensors of {directory} have no place in its config: {unused[0]}, ...")
    assert isinstance(model, nn.Module)
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bars, reports and warnings off stderr; its settings come back after."""
    import transformers.utils.logging

    settings: Any = transformers.utils.logging
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity(logging.CRITICAL)
    settings.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()


def _brief(error: Exception) -> str:
    """The first two lines: what and where; transformers goes on to advise other things."""
    return f"{type(error).__name__}: {' '.join(str(error).splitlines()[:2])}"


def _runner(backbone: nn.Module) -> Callable[[Tensor], object]:
    """The stack without lm_head, whose logits would be the largest tensor of the run."""
    return lambda ids: backbone(input_ids=ids, use_cache=False)


def _head_runner(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def logits(ids: Tensor) -> Tensor:
        found: Tensor = model(input_ids=ids, use_cache=False).logits
        return found

    return logits


def _check_finite(model: nn.Module, directory: Path) -> None:
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise NoResultError(f"{directory}: {name}: has weights that are not finite")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
