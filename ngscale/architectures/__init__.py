"""config.json of every known architecture -> ModelSpec; one short file each.

A file has ``MODEL_TYPES`` and ``read``; ``IGNORED`` where its configs have keys that change no
tensor and are nobody else's, ``read_gates`` where n-gram rows are read in its layers. Adding one
adds a line to ``_FILES``. Standard library only.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ngscale.architectures import (
    deepseek_v3,
    deepseek_v4,
    deepseek_v41,
    gemma3n,
    glm4_moe,
    gpt2,
    gpt_oss,
    llama,
    longcat_flash,
    mixtral,
    ngscale_moe,
    olmoe,
    qwen2_moe,
    qwen3_moe,
    qwen3_next,
    qwen4_exp,
)
from ngscale.architectures.harmless import HARMLESS_KEYS
from ngscale.config_reader import ConfigReader
from ngscale.errors import InputError, SpecError
from ngscale.model_spec import ModelSpec, NgramGate
from ngscale.ngram_config import LONGCAT_MODEL_TYPES, is_longcat
from ngscale.spec import NgramSpec

_FILES = (
    ngscale_moe,
    longcat_flash,
    deepseek_v3,
    deepseek_v4,
    deepseek_v41,
    gemma3n,
    glm4_moe,
    gpt2,
    gpt_oss,
    llama,
    mixtral,
    olmoe,
    qwen2_moe,
    qwen3_moe,
    qwen3_next,
    qwen4_exp,
)

READERS: Mapping[str, Callable[[ConfigReader], ModelSpec]] = {
    name: file.read for file in _FILES for name in file.MODEL_TYPES
}
"""Every model_type that is understood."""
_IGNORED: Mapping[str, frozenset[str]] = {
    name: getattr(file, "IGNORED", frozenset()) for file in _FILES for name in file.MODEL_TYPES
}
_GATES: Mapping[str, Callable[[ConfigReader, tuple[NgramSpec, ...]], tuple[NgramGate, ...]]] = {
    name: file.read_gates
    for file in _FILES
    for name in file.MODEL_TYPES
    if hasattr(file, "read_gates")
}
WRAPPERS = ("gemma3", "gemma3n", "qwen4_exp")
"""Multi-modal model_types whose ``text_config`` is read, the rest is not counted."""


def read_model(reader: ConfigReader) -> ModelSpec:
    """The model a config.json describes, without its n-gram tables.

    Raises:
        InputError: names the file, the key, its value and what is expected.
    """
    kind = reader.model_type
    if kind in WRAPPERS and "text_config" in reader.values:
        return _lift(read_model(reader.object("text_config")), reader)
    if kind is not None and kind in READERS:
        read = READERS[kind]
    elif is_longcat(reader):  # LongcatCausalLM's configs have no model_type
        read = longcat_flash.read
    else:
        raise reader.unknown_family(sorted({*READERS, *WRAPPERS}))
    for switch in ("add_cross_attention", "is_encoder_decoder"):
        if reader.flag(switch):
            raise reader.fail(switch, "true is not understood; only decoders are")
    try:
        return read(reader)
    except SpecError as error:
        raise InputError(f"{reader.source}: {error}") from error


def read_gates(reader: ConfigReader, specs: tuple[NgramSpec, ...]) -> tuple[NgramGate, ...]:
    """What the rows of these tables are read through; none where it is not known."""
    if reader.model_type in WRAPPERS and "text_config" in reader.values:
        reader = reader.object("text_config")
    read = _GATES.get(reader.model_type or "")
    return () if read is None else read(reader, specs)


def harmless_keys(model_type: str | None) -> frozenset[str]:
    """Keys of config.json that change no tensor, of all architectures and of this one."""
    return HARMLESS_KEYS | _IGNORED.get(model_type or LONGCAT_MODEL_TYPES[0], frozenset())


def _lift(model: ModelSpec, reader: ConfigReader) -> ModelSpec:
    """The text model of a multi-modal config: its keys are within ``text_config``."""
    keys = model.expert_keys
    if keys is not None:
        keys = replace(
            keys,
            num_experts=f"text_config.{keys.num_experts}",
            top_k=f"text_config.{keys.top_k}",
            intermediate_size=f"text_config.{keys.intermediate_size}",
        )
    return replace(
        model,
        config=dict(reader.values),
        expert_keys=keys,
        ties_embeddings=reader.flag("tie_word_embeddings", default=model.ties_embeddings),
    )


def with_keys(model: ModelSpec, changes: Mapping[str, Any]) -> ModelSpec:
    """The model of the same config.json with some keys changed (``ExpertKeys`` names them).

    Raises:
        InputError: the changed config makes no model.
    """
    config = copy.deepcopy(dict(model.config))
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = config
        for part in path:
            inner = inner[part]
        inner[last] = value
    return read_model(ConfigReader(config, model.model_type))


def with_experts(model: ModelSpec, num_experts: int) -> ModelSpec:
    """The same model with another number of routed experts in every layer that has some.

    Raises:
        SpecError: it has none.
        InputError: the number makes no model.
    """
    if model.expert_keys is None:
        raise SpecError(f"{model.model_type} has no experts whose number could vary")
    return with_keys(model, {model.expert_keys.num_experts: num_experts})
