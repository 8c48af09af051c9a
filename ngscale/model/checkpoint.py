"""A directory with config.json and safetensors <-> (Decoder, Design).

ngscale's own decoder under its own names; a LongCat-Flash under LongCat's (``model/longcat.py``).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ngscale.config_reader import ConfigReader
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError, NoResultError, SpecError
from ngscale.free_memory import expect, free_bytes
from ngscale.hashing.torch_twin import NgramHash
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramTables
from ngscale.model.longcat import Family, load_longcat_tensors, longcat_tensors
from ngscale.model_spec import ModelSpec
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat
from ngscale.records import dump_json, write_atomic
from ngscale.safetensors_header import INDEX_NAME, WEIGHTS_NAME, weight_files

CONFIG_NAME = "config.json"


def save_decoder(
    decoder: Decoder, design: Design, directory: Path, *, family: Family = "ngram_embeddings"
) -> None:
    """Write both files, each whole or not at all; config.json last, so that it vouches for both.

    ``family`` says what a LongCat-Flash's n-gram tensors are called.
    """
    state = decoder.state_dict()
    if is_longcats(design.model):
        state = longcat_tensors(decoder, family=family)
    tensors = {name: t.detach().cpu().contiguous() for name, t in state.items()}
    write_atomic(directory / WEIGHTS_NAME, save(tensors))
    write_atomic(directory / CONFIG_NAME, dump_json(design_config(design)).encode())


def load_decoder(directory: Path) -> tuple[Decoder, Design]:
    """The decoder on the CPU, in evaluation mode, and its design.

    Raises:
        InputError: a file is missing or broken, the config is of another model family, or a
            tensor is missing, unexpected or of the wrong shape; names the file and the tensor.
        UnsafeInputError: a shard lies outside the directory.
        ResourceError: it does not fit in memory.
    """
    design = _read_design(directory)
    if is_longcats(design.model):
        return _load_longcat(directory, design), design
    tensors: dict[str, Tensor] = {}
    sharded = (directory / INDEX_NAME).is_file() and not (directory / WEIGHTS_NAME).is_file()
    paths = weight_files(directory) if sharded else [directory / WEIGHTS_NAME]
    _expect_room(directory, paths)
    for path in paths:
        tensors |= _read_tensors(path)
    _planned(directory, design, {name: tensor.to("meta") for name, tensor in tensors.items()})
    decoder = Decoder(design, compressed_ids=_compressed_ids(tensors))
    decoder.load_state_dict(tensors)
    return decoder.eval(), design


def check_finite(weight: Tensor, name: str, source: str) -> None:
    """Refuse a model whose weights are broken.

    Raises:
        NoResultError: a number is not finite.
    """
    if not weight.is_floating_point() or not weight.numel():
        return
    low, high = torch.aminmax(weight)  # NaN if any is; isfinite would hold the weight once more
    if not math.isfinite(low.item()) or not math.isfinite(high.item()):
        raise NoResultError(f"{source}: {name}: has weights that are not finite")


def plan_decoder(directory: Path, tensors: Mapping[str, Tensor]) -> tuple[Decoder, Design]:
    """The decoder of config.json without its weights, and its design.

    All is on the meta device, ``tensors`` too, to whose names and shapes it is held; only what row
    ids are computed from is real, but for ``compressed_ids``.

    Raises:
        InputError: as ``load_decoder``.
    """
    design = _read_design(directory)
    if is_longcats(design.model):
        with torch.device("meta"):
            decoder = _built(directory / CONFIG_NAME, design, None)
        load_longcat_tensors(decoder, tensors, source=str(directory))
    else:
        decoder = _planned(directory, design, tensors)
    for module in decoder.modules():
        if isinstance(module, NgramTables):
            module.row_ids = NgramHash(module.spec)
            module.table_starts = torch.tensor(module.spec.table_starts)
    return decoder.eval(), design


def _read_design(directory: Path) -> Design:
    design = read_design(directory / CONFIG_NAME)
    if design.model.model_type != DECODER_MODEL_TYPE and not is_longcats(design.model):
        path = directory / CONFIG_NAME
        raise InputError(f"{path}: model_type: is not ngscale's own decoder")
    return design


def _planned(directory: Path, design: Design, tensors: Mapping[str, Tensor]) -> Decoder:
    """Ngscale's own, on the meta device, which ``tensors`` fit."""
    with torch.device("meta"):
        decoder = _built(directory / CONFIG_NAME, design, _compressed_ids(tensors))
    _check(directory / WEIGHTS_NAME, tensors, decoder.state_dict())
    return decoder


def _compressed_ids(tensors: Mapping[str, Tensor]) -> Tensor | None:
    return next((t for name, t in tensors.items() if name.endswith("compressed_ids")), None)


def _built(config_path: Path, design: Design, compressed_ids: Tensor | None) -> Decoder:
    try:
        return Decoder(design, compressed_ids=compressed_ids)
    except SpecError as error:
        raise InputError(f"{config_path}: {error}") from error


def _load_longcat(directory: Path, design: Design) -> Decoder:
    tensors: dict[str, Tensor] = {}
    paths = weight_files(directory)
    _expect_room(directory, paths)
    for path in paths:
        tensors |= _read_tensors(path)
    decoder = _built(directory / CONFIG_NAME, design, None)
    load_longcat_tensors(decoder, tensors, source=str(directory))
    return decoder.eval()


def is_longcats(model: ModelSpec) -> bool:
    """Whether its tensors have LongCat's names."""
    return is_longcat(ConfigReader(model.config, model.model_type))


def _expect_room(directory: Path, paths: Sequence[Path]) -> None:
    """What is stored is there twice while the decoder is filled with it."""
    stored = sum(path.stat().st_size for path in paths if path.is_file())
    expect(str(directory), 2 * stored, "use a smaller checkpoint", free_bytes())


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file: {error}") from error


def _check(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if missing := sorted(set(expected) - set(tensors)):
        raise InputError(f"{path}: {missing[0]}: is missing ({len(missing)} in all)")
    if unexpected := sorted(set(tensors) - set(expected)):
        raise InputError(
            f"{path}: {unexpected[0]}: has no place in the design of config.json "
            f"({len(unexpected)} in all)"
        )
    for name, tensor in sorted(tensors.items()):
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name}: has shape {list(tensor.shape)}, the design of config.json "
                f"needs {list(expected[name].shape)}"
            )
