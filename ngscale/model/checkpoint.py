"""A directory with config.json and safetensors <-> (Decoder, Design).

ngscale's own decoder under its own names; a LongCat-Flash under LongCat's (``model/longcat.py``).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from ngscale.config_reader import ConfigReader
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError, SpecError
from ngscale.free_memory import expect, free_bytes
from ngscale.hashing.torch_twin import NgramHash
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramTables
from ngscale.model.longcat import Family, load_longcat_tensors, longcat_tensors
from ngscale.model.stored import StoredTensors, open_tensors, planned
from ngscale.model_spec import ModelSpec
from ngscale.ngram_config import DECODER_MODEL_TYPE, is_longcat
from ngscale.records import dump_json, write_atomic
from ngscale.safetensors_header import WEIGHTS_NAME, inside

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
    _read_design(directory)  # a config of another family is told before weights that are missing
    stored = open_tensors(directory)
    plan, design = plan_decoder(directory, planned(stored))  # what does not fit is never allocated
    needed = sum(tensor.numel() * tensor.element_size() for tensor in plan.state_dict().values())
    expect(str(directory), needed, "use a smaller checkpoint", free_bytes())
    tensors = StoredTensors(stored)
    decoder = Decoder(design, compressed_ids=_compressed_ids(tensors))
    if is_longcats(design.model):
        load_longcat_tensors(decoder, tensors, source=str(directory))
        return decoder.eval(), design
    with torch.no_grad():
        for name, place in decoder.state_dict().items():
            stored[name].read_into(place)
    for module in decoder.modules():
        if isinstance(module, NgramTables):
            _check_compressed_ids(module, directory)
    return decoder.eval(), design


def plan_decoder(directory: Path, tensors: Mapping[str, Tensor]) -> tuple[Decoder, Design]:
    """The decoder of config.json without its weights, and its design.

    All is on the meta device, ``tensors`` too, to whose names and shapes it is held; only what row
    ids are computed from is real, but for ``compressed_ids``.

    Raises:
        InputError: as ``load_decoder``.
    """
    design = _read_design(directory)
    if design.model.num_layers > len(tensors):  # nobody waits until 10^9 are built
        raise InputError(
            f"{directory / CONFIG_NAME}: has {design.model.num_layers} layers, the weights only "
            f"{len(tensors)} tensors"
        )
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
    design = read_design(inside(directory, CONFIG_NAME))
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


def _check_compressed_ids(module: NgramTables, directory: Path) -> None:
    ids, limit = module.compressed_ids, module.spec.compressed_vocab
    if ids is None or limit is None:
        return
    if ids.dtype != torch.int64 or int(ids.min()) < 0 or int(ids.max()) >= limit:
        raise InputError(f"{directory}: compressed_ids: must be I64 ids from 0 to {limit - 1}")


def _compressed_ids(tensors: Mapping[str, Tensor]) -> Tensor | None:
    name = next((name for name in tensors if name.endswith("compressed_ids")), None)
    return None if name is None else tensors[name]


def _built(config_path: Path, design: Design, compressed_ids: Tensor | None) -> Decoder:
    try:
        return Decoder(design, compressed_ids=compressed_ids)
    except SpecError as error:
        raise InputError(f"{config_path}: {error}") from error


def is_longcats(model: ModelSpec) -> bool:
    """Whether its tensors have LongCat's names."""
    return is_longcat(ConfigReader(model.config, model.model_type))


def _check(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    if missing := sorted(set(expected) - set(tensors)):
        raise InputError(f"{path}: {missing[0]}: is missing ({len(missing)} in all)")
    if unexpected := sorted(set(tensors) - set(expected)):
        raise InputError(
            f"{path}: {unexpected[0]}: has no place in the design of config.json "
            f"({len(unexpected)} in all)"
        )
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise InputError(f"{path}: {name}: is {tensor.dtype}, must be {expected[name].dtype}")
        if tensor.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name}: has shape {list(tensor.shape)}, the design of config.json "
                f"needs {list(expected[name].shape)}"
            )
