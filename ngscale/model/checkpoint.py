"""A directory with config.json and model.safetensors <-> (Decoder, Design)."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ngscale.design import Design, decoder_config, read_design
from ngscale.errors import InputError
from ngscale.model.decoder import Decoder
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.records import dump_json, write_atomic

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


def save_decoder(decoder: Decoder, design: Design, directory: Path) -> None:
    """Write both files, each whole or not at all; config.json last, so that it vouches for both."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in decoder.state_dict().items()}
    write_atomic(directory / WEIGHTS_NAME, save(tensors))
    write_atomic(directory / CONFIG_NAME, dump_json(decoder_config(design)).encode())


def load_decoder(directory: Path) -> tuple[Decoder, Design]:
    """The decoder on the CPU, in evaluation mode, and its design.

    Raises:
        InputError: a file is missing or broken, the config is of another model family, or a
            tensor is missing, unexpected or of the wrong shape; names the file and the tensor.
    """
    config_path, weights_path = directory / CONFIG_NAME, directory / WEIGHTS_NAME
    design = read_design(config_path)
    if design.model.model_type != DECODER_MODEL_TYPE:
        raise InputError(f"{config_path}: model_type: is not ngscale's own decoder")
    with torch.device("meta"):
        expected = Decoder(design).state_dict()
    tensors = _read_tensors(weights_path)
    _check(weights_path, tensors, expected)
    decoder = Decoder(design)
    decoder.load_state_dict(tensors)
    return decoder.eval(), design


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
