"""A checkpoint directory -> a decoder in float32 that can be run and hooked.

Two kinds: those that ngscale builds itself (its own, and LongCat-Flash with tables: ``load_own``)
and any decoder transformers knows (``load_transformers``). Whole in memory, or a layer at a time
(``streamed``). Only safetensors and GGUF (``load_gguf``) are read, unless pickled tensors are
asked for.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ngscale.artefacts import file_digest
from ngscale.config_reader import ConfigReader, read_config, shown
from ngscale.design import Design
from ngscale.errors import InputError, UnsafeInputError, UsageError
from ngscale.free_memory import expect, free_bytes
from ngscale.model.checkpoint import CONFIG_NAME, load_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.device import pick_device
from ngscale.model.stored import PlannedTensor, StoredTensor, check_finite
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat, specs_if_any
from ngscale.probe import load_transformers
from ngscale.probe.load_gguf import find_gguf, load_gguf
from ngscale.probe.load_own import stream_own
from ngscale.probe.memory import memory_errors
from ngscale.probe.streamed import LayerStream, Read, move_present
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
    logits: Callable[[Tensor], Tensor] | None
    """The same, and what lm_head makes of it (1, T, V0); None of a model that is run but once."""
    device: torch.device
    streamed: bool
    """Whether a layer is read when it is entered; several windows then go through it together."""
    gguf: Path | None
    """The file, where it is one; it carries a tokenizer."""
    files: dict[str, str]
    """File name -> sha256 of config and, unless they are streamed, weights."""
    headers: dict[str, str]
    """File name -> sha256 of the header of weights that are streamed: all that is read of each."""


def load_checkpoint(
    place: Path, *, device: str, allow_pickle: bool = False, stream: bool = False
) -> Checkpoint:
    """Load a directory or a GGUF file; ``device`` is ``auto``, or what torch calls one.

    ``allow_pickle`` takes pytorch_model.bin where there are no safetensors, tensors only
    (``torch.load(weights_only=True)``). ``stream`` reads a layer when it is run (``streamed``).

    Raises:
        InputError: something is missing, malformed or of an unknown architecture, or a weight is
            not finite.
        UnsafeInputError: loading it would run code or leave the directory.
        UsageError: ``stream`` is asked of what is not safetensors.
        MissingExtraError: transformers is needed and not installed.
        ResourceError: it does not fit in memory.
    """
    target = pick_device(device)
    if (gguf := find_gguf(place)) is not None:
        return _load_gguf(gguf, target, stream=stream)
    if not place.is_dir():
        raise InputError(f"{place}: no such directory; probe takes a checkpoint's directory")
    config_path = inside(place, CONFIG_NAME)
    reader = read_config(config_path)
    model_type = reader.values.get("model_type")
    if not isinstance(model_type, str):
        raise reader.fail("model_type", "is missing, so this is not a model's config")
    ours = model_type == DECODER_MODEL_TYPE or (is_longcat(reader) and bool(specs_if_any(reader)))
    if not ours:
        _check_transformers(reader)
    files = _weights(place, allow_pickle=allow_pickle)
    headers = None if files[0].name == PICKLE_NAME else read_headers(place)
    if stream and headers is None:
        raise UsageError("--stream: reads safetensors by range; pickled weights are read whole")
    if headers is not None and not stream:
        floats = sum(header.num_elements for header in headers.values())
        expect(f"{place} in float32", 4 * floats, "--stream reads it by layers", free_bytes())
    model: nn.Module
    with memory_errors(f"{place} in float32"):
        if stream and headers is not None:
            model, design, read = _plan(place, headers, target, ours=ours)
            structure = find_structure(model, str(place))
            move_present(model, target)
            LayerStream(model, structure, read, source=str(place))
        else:
            model, design = _load_whole(place, headers, ours=ours)
            structure = _placed(model, target, str(place))
    vocab_size, hidden_size = _sizes(structure, design)
    at_input = [] if design is None else [spec for spec in design.ngrams if not spec.layers]
    longest = reader.values.get("max_position_embeddings")
    return Checkpoint(
        name=_name(place),
        model_type=model_type,
        is_own=model_type == DECODER_MODEL_TYPE,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        max_tokens=longest if isinstance(longest, int) else None,
        amplification=at_input[0].amplification if at_input else "none",
        structure=structure,
        run=model.hidden if isinstance(model, Decoder) else _runner(structure.backbone),
        logits=None if stream else model if isinstance(model, Decoder) else _head_runner(model),
        device=target,
        streamed=stream,
        gguf=None,
        files={path.name: file_digest(path) for path in (config_path, *(() if stream else files))},
        headers={path.name: _sha256_of_header(path) for path in (files if stream else ())},
    )


def _load_gguf(path: Path, device: torch.device, *, stream: bool) -> Checkpoint:
    if stream:
        raise UsageError(f"--stream: reads safetensors by range; {path.name} is read whole")
    with memory_errors(f"{path} in float32"):
        model: Any = load_gguf(path)
        _check_finite(model, path)
        structure = _placed(model, device, str(path))
    vocab_size, hidden_size = _sizes(structure, None)
    return Checkpoint(
        name=path.stem,
        model_type=model.config.model_type,
        is_own=False,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        max_tokens=getattr(model.config, "max_position_embeddings", None),
        amplification="none",
        structure=structure,
        run=_runner(structure.backbone),
        logits=_head_runner(model),
        device=device,
        streamed=False,
        gguf=path,
        files={path.name: file_digest(path)},
        headers={},
    )


def _placed(model: nn.Module, device: torch.device, source: str) -> Structure:
    """Move a whole model to its device; refuse one that probe cannot read."""
    model.to(device)
    return find_structure(model, source)


def _check_finite(model: nn.Module, path: Path) -> None:
    """As ``StoredTensor`` does, of weights that others have read from ``path``."""
    for name, weight in model.state_dict().items():
        check_finite(weight, name, str(path))


def _name(directory: Path) -> str:
    """That of the directory; of a snapshot in a hub cache, that of the model."""
    root = directory.resolve()
    repository = root.parent.parent.name
    if root.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return root.name


def _check_transformers(reader: ConfigReader) -> None:
    """What of a model's config transformers would act on, and probe does not let it."""
    for key, value in _entries(reader.values):
        if key == "auto_map":
            raise UnsafeInputError(
                f"{reader.source}: auto_map: the model needs code from its directory, and "
                "probe runs none; use a transformers release that has the architecture built in"
            )
        if key.endswith("_implementation") and "/" in str(value):
            raise UnsafeInputError(
                f"{reader.source}: {shown(key)}: {shown(str(value))}: is code on the hub, and "
                "probe runs none; remove the key"
            )
    if "quantization_config" in reader.values:
        raise reader.fail("quantization_config", "probe reads no quantised weights; convert first")


def _entries(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key of a config with its value, those of the configs within it too."""
    waiting = [config]
    while waiting:
        for key, value in waiting.pop().items():
            yield key, value
            if isinstance(value, dict):
                waiting.append(value)


def _load_whole(
    directory: Path, headers: Mapping[str, TensorHeader] | None, *, ours: bool
) -> tuple[nn.Module, Design | None]:
    """Without headers, from pickled weights."""
    if ours:
        return load_decoder(directory)
    if headers is None:
        model = load_transformers.load_pickled(directory)
        _check_finite(model, directory / PICKLE_NAME)
        return model, None
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


def _runner(backbone: nn.Module) -> Callable[[Tensor], object]:
    """The stack without lm_head, whose logits would be the largest tensor of the run."""
    return lambda ids: backbone(input_ids=ids, use_cache=False)


def _head_runner(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def logits(ids: Tensor) -> Tensor:
        found: Tensor = model(input_ids=ids, use_cache=False).logits
        return found

    return logits


def _sha256_of_header(path: Path) -> str:
    """Of its length and itself: names, types, shapes and places."""
    with path.open("rb") as file:
        length = file.read(8)
        return hashlib.sha256(length + file.read(int.from_bytes(length, "little"))).hexdigest()
