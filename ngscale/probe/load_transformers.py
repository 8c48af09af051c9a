"""A decoder that transformers knows, in float32: whole, or planned and read layer by layer.

Only transformers' own classes are run: no remote code.
"""

import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - what torch.load raises; nothing is unpickled
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ngscale.console import say
from ngscale.errors import InputError, MissingExtraError, UnsafeInputError
from ngscale.model.stored import StoredTensor
from ngscale.probe.memory import is_out_of_memory
from ngscale.probe.streamed import Read

LOADING: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}


def load_pickled(directory: Path) -> nn.Module:
    """From pytorch_model.bin, tensors only.

    Raises:
        InputError: as ``load_stored``.
        UnsafeInputError: it holds more than tensors.
    """

    def load(transformers: Any) -> Any:
        return transformers.AutoModelForCausalLM.from_pretrained(
            directory,
            **LOADING,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=False,
            weights_only=True,
        )

    try:
        return loaded(directory, load)
    except UnpicklingError as error:
        raise UnsafeInputError(
            f"{directory}: pytorch_model.bin: holds more than tensors, which probe does not read: "
            f"{str(error).split('Trying to load ')[-1].splitlines()[0]}"
        ) from error


def load_stored(directory: Path, tensors: Mapping[str, StoredTensor]) -> nn.Module:
    """The decoder of config.json with ``tensors``; of planned ones, without its weights.

    Raises:
        InputError: transformers cannot build it, or a weight is missing.
        MissingExtraError: transformers is not installed.
    """

    def load(transformers: Any) -> Any:
        config = transformers.AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            kind: Any = type(transformers.AutoModelForCausalLM.from_config(config))
        return kind.from_pretrained(None, config=config, state_dict=dict(tensors), **LOADING)

    return loaded(directory, load)


def loaded(source: Path, load: Callable[[Any], Any]) -> nn.Module:
    """What ``load`` makes of transformers, a model and its loading info; its errors in our words.

    Raises:
        InputError: transformers cannot build it, or a weight is missing.
        MissingExtraError: transformers is not installed.
    """
    try:
        import transformers
        from huggingface_hub.errors import StrictDataclassError
    except ModuleNotFoundError as error:
        raise MissingExtraError("transformers", "hf") from error
    try:
        with quiet():
            model, info = load(transformers)
    except UnpicklingError:
        raise
    except SafetensorError as error:
        raise InputError(f"{source}: the safetensors weights are broken: {error}") from error
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
        *(ImportError, RuntimeError, AssertionError, EOFError, struct.error, StrictDataclassError),
    ) as error:  # whatever a wrong value in config.json sets off inside transformers
        if is_out_of_memory(error):
            raise
        raise InputError(f"{source}: transformers cannot load it: {_brief(error)}") from error
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"{source}: {missing[0]}: is not in the weights ({len(missing)} are missing); "
            "config.json is of another model"
        )
    if unused := sorted(info["unexpected_keys"]):
        say(f"{len(unused)} tensors of {source} have no place in its config: {unused[0]}, ...")
    assert isinstance(model, nn.Module)
    return model.eval()


def reader(model: nn.Module, tensors: Mapping[str, StoredTensor], device: torch.device) -> Read:
    """Reads tensors into a model that was planned from them, converted as transformers does.

    A checkpoint's tensor goes with the first name it becomes, so experts that are stored one by
    one are read when the fused weight is.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        convert_and_load_state_dict_in_model,
        rename_source_key,
    )
    from transformers.modeling_utils import LoadStateDictConfig

    planned: Any = model
    mapping: list[Any] = get_model_conversion_mapping(planned)
    config = LoadStateDictConfig(
        device_map={"": device},
        dtype=torch.float32,
        dtype_plan=planned._get_dtype_plan(torch.float32),
        weight_mapping=mapping,
    )
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    places, prefix = model.state_dict(), planned.base_model_prefix
    sources: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        place, _ = rename_source_key(name, renamings, converters, prefix, places)
        if place not in places and name in places:
            place = name
        sources.setdefault(place, {})[name] = tensor

    def read(names: Sequence[str]) -> None:
        with quiet():
            for name in names:  # one by one: a fused weight and its parts are held at once
                if stored := sources.get(name):
                    convert_and_load_state_dict_in_model(planned, stored, config)

    return read


@contextmanager
def quiet() -> Iterator[None]:
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
