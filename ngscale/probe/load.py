"""A checkpoint directory -> a decoder in float32 that can be run and hooked.

Two kinds: those that ngscale builds itself (its own, and LongCat-Flash with tables: ``load_own``)
and any decoder transformers knows (``load_transformers``). Whole in memory, or a layer at a time
(``streamed``). Only safetensors are read, unless pickled tensors are asked for.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ngscale.config_reader import ConfigReader, read_config
from ngscale.design import Design
from ngscale.errors import InputError, UnsafeInputError, UsageError
from ngscale.model.checkpoint import CONFIG_NAME, load_decoder
from ngscale.model.decoder import Decoder
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat, specs_if_any
from ngscale.probe import load_transformers
from ngscale.probe.load_own import stream_own
from ngscale.probe.memory import memory_errors
from ngscale.probe.stored import PlannedTensor, StoredTensor
from ngscale.probe.streamed import NOT_RUN, LayerStream, Read, check_finite, move_present
from ngscale.probe.structure import Structure, find_structure
from ngscale.safetensors_header import TensorHeader, inside, read_headers, weight_files
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
    device: torch.device
    streamed: bool
    """Whether a layer is read when it is entered; several windows then go through it together."""
    files: dict[str, str]
    """File name -> sha256 of config and, unless they are streamed, weights."""
    headers: dict[str, str]
    """File name -> sha256 of the header of weights that are streamed: all that is read of each."""


def load_checkpoint(
    directory: Path, *, device: str, allow_pickle: bool = False, stream: bool = False
) -> Checkpoint:
    """Load a checkpoint; ``device`` is ``auto``, or what torch calls one.

    ``allow_pickle`` takes pytorch_model.bin where there are no safetensors, tensors only
    (``torch.load(weights_only=True)``). ``stream`` reads a layer when it is run (``streamed``).

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
    ours = model_type == DECODER_MODEL_TYPE or (is_longcat(reader) and bool(specs_if_any(reader)))
    if not ours:
        _check_transformers(reader)
    files = _weights(directory, allow_pickle=allow_pickle)
    headers = None if files[0].name == PICKLE_NAME else read_headers(directory)
    if stream and headers is None:
        raise UsageError("--stream: reads safetensors by range; pickled weights are read whole")
    model: nn.Module
    with memory_errors(f"{directory} in float32"):
        if stream and headers is not None:
            model, design, read = _plan(directory, headers, target, ours=ours)
            structure = find_structure(model, str(directory))
            move_present(model, target)
            LayerStream(model, structure, read, source=str(directory))
        else:
            model, design = _load_whole(directory, headers, ours=ours)
            model.to(target)
            for name, weight in model.state_dict().items():
                if not name.startswith(NOT_RUN):
                    check_finite(weight, name, str(directory))
            structure = find_structure(model, str(directory))
    vocab_size, hidden_size = _sizes(structure, design)
    ngram = None if design is None else design.ngram
    longest = reader.values.get("max_position_embeddings")
    return Checkpoint(
        name=directory.resolve().name,
        model_type=model_type,
        is_own=model_type == DECODER_MODEL_TYPE,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        max_tokens=longest if isinstance(longest, int) else None,
        amplification="none" if ngram is None else ngram.amplification,
        structure=structure,
        run=model.hidden if isinstance(model, Decoder) else _runner(structure.backbone),
        device=target,
        streamed=stream,
        files={path.name: _sha256(path) for path in (config_path, *(() if stream else files))},
        headers={path.name: _sha256_of_header(path) for path in (files if stream else ())},
    )


def _check_transformers(reader: ConfigReader) -> None:
    """What of a model's config transformers would act on, and probe does not let it."""
    if "auto_map" in reader.values:
        raise UnsafeInputError(
            f"{reader.source}: auto_map: the model needs code from its directory, and probe runs "
            "none; use a transformers release that has the architecture built in"
        )
    if "quantization_config" in reader.values:
        raise reader.fail("quantization_config", "probe reads no quantised weights; convert first")


def _load_whole(
    directory: Path, headers: Mapping[str, TensorHeader] | None, *, ours: bool
) -> tuple[nn.Module, Design | None]:
    """Without headers, from pickled weights."""
    if ours:
        return load_decoder(directory)
    if headers is None:
        return load_transformers.load_pickled(directory), None
    tensors = {name: StoredTensor(directory, header) for name, header in headers.items()}
    return load_transformers.load_stored(directory, tensors), None


def _plan(
    directory: Path, headers: Mapping[str, TensorHeader], device: torch.device, *, ours: bool
) -> tuple[nn.Module, Design | None, Read]:
    """The model without its weights, and what reads them."""
    stored = {name: StoredTensor(directory, header) for name, header in headers.items()}
    if ours:
        return stream_own(directory, stored, device)
    planned = {name: PlannedTensor(directory, header) for name, header in headers.items()}
    model = load_transformers.load_stored(directory, planned)
    return model, None, load_transformers.reader(model, stored, device)


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


def _runner(backbone: nn.Module) -> Callable[[Tensor], object]:
    """The stack without lm_head, whose logits would be the largest tensor of the run."""
    return lambda ids: backbone(input_ids=ids, use_cache=False)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_header(path: Path) -> str:
    """Of its length and itself: names, types, shapes and places."""
    with path.open("rb") as file:
        length = file.read(8)
        return hashlib.sha256(length + file.read(int.from_bytes(length, "little"))).hexdigest()
