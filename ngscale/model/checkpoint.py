"""A directory with config.json and safetensors <-> (Decoder, Design).

ngscale's own decoder under its own names; a LongCat-Flash under LongCat's (``model/longcat.py``).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ngscale.config_reader import ConfigReader
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError, SpecError
from ngscale.model.decoder import Decoder
from ngscale.model.longcat import Family, load_longcat_tensors, longcat_tensors
from ngscale.model_spec import ModelSpec
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat
from ngscale.records import dump_json, write_atomic
from ngscale.safetensors_header import WEIGHTS_NAME, weight_files

CONFIG_NAME = "config.json"


def save_decoder(
    decoder: Decoder, design: Design, directory: Path, *, family: Family = "ngram_embeddings"
) -> None:
    """Write both files, each whole or not at all; config.json last, so that it vouches for both.

    ``family`` says what a LongCat-Flash's n-gram tensors are called.
    """
    state = decoder.state_dict()
    if _is_longcats(design.model):
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
    """
    config_path = directory / CONFIG_NAME
    design = read_design(config_path)
    if _is_longcats(design.model):
        return _load_longcat(directory, design), design
    if design.model.model_type != DECODER_MODEL_TYPE:
        raise InputError(f"{config_path}: model_type: is not ngscale's own decoder")
    weights_path = directory / WEIGHTS_NAME
    tensors = _read_tensors(weights_path)
    ids = next((t for name, t in tensors.items() if name.endswith("compressed_ids")), None)
    with torch.device("meta"):
        expected = _built(config_path, design, None if ids is None else ids.to("meta"))
    _check(weights_path, tensors, expected.state_dict())
    decoder = Decoder(design, compressed_ids=ids)
    decoder.load_state_dict(tensors)
    return decoder.eval(), design


def _built(config_path: Path, design: Design, compressed_ids: Tensor | None) -> Decoder:
    try:
        return Decoder(design, compressed_ids=compressed_ids)
    except SpecError as error:
        raise InputError(f"{config_path}: {error}") from error


def _load_longcat(directory: Path, design: Design) -> Decoder:
    tensors: dict[str, Tensor] = {}
    for path in weight_files(directory):
        tensors |= _read_tensors(path)
    decoder = _built(directory / CONFIG_NAME, design, None)
    load_longcat_tensors(decoder, tensors, source=str(directory))
    return decoder.eval()


def _is_longcats(model: ModelSpec) -> bool:
    return is_longcat(ConfigReader(model.config, model.model_type))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: is not a safetensors file: {error}") from error


def _check(path: Path, tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    if missing := sorted(set(expected) - set(tensors)):
        raise InputError(f"{path}: {missing[0]}: is missing ({len(missing)} in all)")
    if unexpected := sorted(set(tensors) - set(expected)):
        raise InputError(
            f"{path}: {unexpected[0]}: has no place in the design of config.json "
            f"({len(unexpected)} in all)"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name}: has shape {list(tensor.shape)}, the design of config.json "
                f"needs {list(expected[name].shape)}"
            )
