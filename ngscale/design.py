"""Design = a model and its n-gram tables, read from and written to Hugging Face config.json.

What the HF keys cannot say is kept in an extension block, ``"ngscale": {...}``. Standard library
only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ngscale.architectures import harmless_keys, read_gates, read_model
from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.config_reader import ConfigReader, read_config
from ngscale.errors import InputError, SpecError
from ngscale.model_spec import ModelSpec, NgramGate
from ngscale.ngram_config import (
    DECODER_MODEL_TYPE,
    EXTENSION_KEY,
    check_num_tables,
    spec_json,
    specs_if_any,
    without_tables,
)
from ngscale.ngram_params import table_width
from ngscale.policy import mode_policy
from ngscale.spec import NgramSpec, longcat_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A model and, where it has them, its n-gram tables.

    Raises:
        SpecError: there are more tables than ``hidden_size`` has columns for.
    """

    model: ModelSpec
    ngrams: tuple[NgramSpec, ...] = ()
    """One for the input embedding, or one for every layer that reads rows."""
    gates: tuple[NgramGate, ...] = ()
    """What each of the ``ngrams`` is read through, where that is not average fusion."""

    def __post_init__(self) -> None:
        """Refuse more tables than the hidden size has columns for."""
        assert len(self.gates) in (0, len(self.ngrams))
        for spec in self.ngrams:
            if spec.row_width is None:
                check_num_tables(spec.num_tables, hidden_size=self.fused_width(spec))

    @property
    def ngram(self) -> NgramSpec | None:
        """The tables of a design that has one set at most.

        Raises:
            SpecError: it has a set for each of several layers.
        """
        if len(self.ngrams) > 1:
            raise SpecError(f"one set of n-gram tables is understood here, got {len(self.ngrams)}")
        return self.ngrams[0] if self.ngrams else None

    def table_width(self, spec: NgramSpec) -> int:
        """Columns of every table: stated, or ``hidden_size // num_tables``."""
        return table_width(spec, self.fused_width(spec))

    def fused_width(self, spec: NgramSpec) -> int:
        """Columns of what the rows become: of the stream, or of the dense block they enter.

        Raises:
            SpecError: the layer has no dense block.
        """
        if spec.placement == "input":
            return self.model.hidden_size
        (index,) = spec.layers
        layers = [layer for copies, layer in self.model.layers for _ in range(copies)]
        if index >= len(layers) or not layers[index].ffns:
            raise SpecError(f"layers: layer {index} has no dense block for {spec.placement}")
        return layers[index].ffns[0].intermediate_size


class _Recorder(dict[str, Any]):
    """A config that knows which of its keys were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.asked: set[object] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(key)
        return super().__contains__(key)


def read_design(path: Path) -> Design:
    """The design a config.json describes.

    Raises:
        InputError: names the file, the key, its value and what is expected; a key is refused too
            where the architecture does not know it, for it may change the tensors.
    """
    return _design(read_config(path))


def design_of(config: Mapping[str, Any], source: str = "config.json") -> Design:
    """The same of a config that is at hand; ``source`` is what messages call it.

    Raises:
        InputError: as ``read_design``.
    """
    return _design(ConfigReader(config, source))


def _design(reader: ConfigReader) -> Design:
    outer = _Recorder(reader.values)
    inner = outer.get("text_config")
    if isinstance(inner, dict):
        inner = outer["text_config"] = _Recorder(inner)
    recorded = ConfigReader(outer, reader.source)
    model = read_model(recorded)
    try:
        ngrams = specs_if_any(recorded)
        is_gated = any(spec.fusion == "gated" for spec in ngrams)
        gates = read_gates(recorded, ngrams) if is_gated else ()
        design = Design(model=model, ngrams=ngrams, gates=gates)
    except SpecError as error:
        raise InputError(f"{reader.source}: {error}") from error
    _refuse_unknown(recorded, outer)
    if isinstance(inner, _Recorder):
        _refuse_unknown(ConfigReader(inner, reader.source, "text_config."), inner)
    return design


def _refuse_unknown(reader: ConfigReader, values: _Recorder) -> None:
    """A null, an empty value or a switch that is off says nothing, so it changes nothing: what is
    counted is what the architecture has without it.
    """
    unknown = sorted(
        key
        for key in set(values) - values.asked - harmless_keys(reader.model_type)
        if reader.values[key] not in (None, False, [], {}) or type(reader.values[key]) is int
    )
    if unknown:
        raise reader.fail(
            unknown[0],
            f"is not known to {reader.model_type} here, so it may change tensors; remove it if "
            "it does not",
        )


def design_config(design: Design) -> dict[str, Any]:
    """config.json of a design; ``read_design`` gives it back.

    The keys of the model are those it was read from, n-gram keys those of ``ngrams``.

    Raises:
        SpecError: the tables are neither those of the model's own keys nor LongCat's.
    """
    if design.model.model_type == DECODER_MODEL_TYPE:
        return decoder_config(design)
    own = dict(design.model.config)
    bare = without_tables(own)
    for config in (own, bare):
        if specs_if_any(ConfigReader(config, design.model.model_type)) == design.ngrams:
            return config
    spec = design.ngram
    if spec is None:
        raise SpecError(f"{design.model.model_type} cannot be written without its n-gram tables")
    return bare | _ngram_config(spec, design.model.vocab_size)


def decoder_config(design: Design) -> dict[str, Any]:
    """config.json of a design on ngscale's own decoder; ``read_design`` gives it back.

    Raises:
        SpecError: the model is of another family, or the hash base is not the vocabulary size.
    """
    keys = DecoderConfig.of(design.model)
    config: dict[str, Any] = {
        "architectures": ["NgscaleMoeForCausalLM"],
        "model_type": DECODER_MODEL_TYPE,
        **keys.as_config(),
        "tie_word_embeddings": False,
    }
    if not design.ngrams:
        return config
    if len(design.ngrams) == 1 and _is_longcats(design.ngrams[0], keys.vocab_size):
        return config | _ngram_config(design.ngrams[0], keys.vocab_size)
    kernels = [gate.conv_kernel for gate in design.gates] or [0] * len(design.ngrams)
    blocks = [
        spec_json(spec) | ({"conv_kernel": kernel} if kernel else {})
        for spec, kernel in zip(design.ngrams, kernels, strict=True)
    ]
    return config | {EXTENSION_KEY: {"ngrams": blocks}}


def _is_longcats(spec: NgramSpec, vocab_size: int) -> bool:
    """Whether LongCat's keys and the extension block can say it."""
    if spec.hash_base != vocab_size or spec.num_subtables is None:
        return False
    plain = longcat_spec(
        vocab_size=vocab_size,
        max_order=spec.max_order,
        num_subtables=spec.num_subtables,
        table_rows=spec.table_rows,
        policy=spec.policy,
    )
    same = replace(
        plain,
        row_family=spec.row_family,
        amplification=spec.amplification,
        amplification_factor=spec.amplification_factor,
        word_scale=spec.word_scale,
        row_multiple=spec.row_multiple,
    )
    return same == spec


def _ngram_config(spec: NgramSpec, vocab_size: int) -> dict[str, Any]:
    """Flash-Lite's keys and the extension block.

    Raises:
        SpecError: the tables are not LongCat's, hashed in base ``vocab_size``.
    """
    if not _is_longcats(spec, vocab_size):
        raise SpecError(
            f"hash base {spec.hash_base} with orders {spec.table_orders} is not LongCat's hash "
            f"in base {vocab_size}; config.json cannot say that"
        )
    boundaries = spec.policy.boundary_tokens
    config: dict[str, Any] = {
        "emb_neighbor_num": spec.max_order,
        "emb_split_num": spec.num_subtables,
        EXTENSION_KEY: {
            "table_rows": list(spec.table_rows),
            "policy": _policy_name(spec) or spec_json(spec)["policy"],
            "amplification": spec.amplification,
            "word_scale": spec.word_scale,
            "row_multiple": spec.row_multiple,
        },
    }
    if spec.amplification == "scalar":
        config[EXTENSION_KEY]["amplification_factor"] = spec.amplification_factor
    if len(boundaries) == 1:
        config["eos_token_id"] = boundaries[0]
    return config


def _policy_name(spec: NgramSpec) -> str | None:
    """The mode whose policy this is, where one is and config.json's keys decide its fields."""
    boundary = spec.policy.boundary_tokens[0] if spec.policy.boundary_tokens else None
    modes = ("hf", "vllm_neg") if boundary is not None else ("no_eos",)
    return next((mode for mode in modes if mode_policy(mode, boundary) == spec.policy), None)
