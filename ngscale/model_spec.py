"""Design = a model and its n-gram tables, read from and written to Hugging Face config.json.

Two families are understood: LongCat-Flash (shortcut-connected MoE with MLA, with the
``ngram_*``/``emb_*`` keys of Flash-Lite or the ``oe_*`` keys of LongCat-2.0) and ngscale's own
small decoder. What the HF keys cannot say is kept in an extension block, ``"ngscale": {...}``.
Standard library only.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.errors import InputError, SpecError
from ngscale.spec import NgramSpec, longcat_rows

DECODER_MODEL_TYPE = "ngscale_moe"
EXTENSION_KEY = "ngscale"

_LONGCAT_ARCHITECTURES = (
    "LongcatFlashForCausalLM",
    "LongcatFlashNgramForCausalLM",
    "LongcatCausalLM",
)
_LONGCAT_MODEL_TYPES = ("longcat_flash", "longcat_flash_ngram")
_NGRAM_KEYS = {
    "ratio": ("ngram_vocab_size_ratio", "oe_vocab_size_ratio"),
    "max_order": ("emb_neighbor_num", "oe_neighbor_num"),
    "num_subtables": ("emb_split_num", "oe_split_num"),
}
"""Aliases: Flash-Lite's keys first, then LongCat-2.0's (SGLang ``LongcatFlashProConfig``)."""
_UNSUPPORTED_SWITCHES = ("tie_word_embeddings", "attention_bias", "router_bias")
"""Keys that, when true, change the tensors in a way no design here can say."""
_MAX_WHOLE = 2**31 - 1
_MAX_NUMBER = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class LongcatModel:
    """LongCat-Flash: each of ``num_layers`` shortcut layers has two attention and two dense
    sub-layers and one MoE. Field names are those of its config.json.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    ffn_hidden_size: int
    expert_ffn_hidden_size: int
    n_routed_experts: int
    zero_expert_num: int
    moe_topk: int
    num_attention_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    num_mtp_layers: int
    """Multi-token-prediction layers; counted apart from the total."""
    index_n_heads: int = 0
    """Heads of the sparse-attention indexer that Lite-Sparse has in every layer's first attention
    (``attention_method`` LSA, RMS ``k_norm``); 0 where there is none."""
    index_head_dim: int = 0

    def __post_init__(self) -> None:
        """Refuse a top-k that the router cannot fill."""
        if self.moe_topk > self.n_routed_experts + self.zero_expert_num:
            raise SpecError(
                f"moe_topk {self.moe_topk} exceeds n_routed_experts {self.n_routed_experts} + "
                f"zero_expert_num {self.zero_expert_num}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderModel:
    """ngscale's own decoder: RMSNorm, RoPE, grouped-query attention, top-k SwiGLU experts."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_tok: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse head and expert counts that cannot be built."""
        if self.num_attention_heads % self.num_key_value_heads:
            raise SpecError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.num_experts_per_tok > self.num_experts:
            raise SpecError(
                f"num_experts_per_tok {self.num_experts_per_tok} exceeds "
                f"num_experts {self.num_experts}"
            )
        if self.head_dim % 2:
            raise SpecError(f"head_dim must be even for RoPE, got {self.head_dim}")


ModelSpec = LongcatModel | DecoderModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A model and, where it has them, its n-gram tables."""

    model: ModelSpec
    ngram: NgramSpec | None

    def __post_init__(self) -> None:
        """Refuse more tables than the hidden size has columns for."""
        if self.ngram is not None:
            check_num_tables(self.ngram.num_tables, hidden_size=self.model.hidden_size)

    @property
    def table_width(self) -> int:
        """Columns of every table: ``hidden_size // num_tables`` (0 without tables)."""
        return 0 if self.ngram is None else self.model.hidden_size // self.ngram.num_tables


def check_num_tables(num_tables: int, *, hidden_size: int) -> None:
    """Refuse more tables than the hidden size has columns for.

    Raises:
        SpecError: names both numbers.
    """
    if num_tables > hidden_size:
        raise SpecError(f"{num_tables} tables leave no width in hidden_size {hidden_size}")


class ConfigReader:
    """Typed look-ups in one config.json; every failure names the file and the key."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        """Read ``values``; ``source`` is what error messages call the file."""
        self.values = values
        self.source = source

    def fail(self, key: str, problem: str) -> InputError:
        """The error for ``key``, ready to be raised."""
        return InputError(f"{self.source}: {key}: {problem}")

    def whole(self, key: str, *, minimum: int = 1, default: int | None = None) -> int:
        """An integer of at least ``minimum``; ``default`` only where the key is absent."""
        if key not in self.values:
            if default is None:
                raise self.fail(key, "is missing; this model family needs it")
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(key, f"must be a whole number, got {json.dumps(value)}")
        if not minimum <= value <= _MAX_WHOLE:
            raise self.fail(key, f"must be {minimum}..{_MAX_WHOLE}, got {value}")
        return value

    def number(self, key: str, *, default: float | None = None) -> float:
        """A finite positive number; an int stays an int (the hash's arithmetic depends on it)."""
        if key not in self.values and default is not None:
            return default
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(key, f"must be a number, got {json.dumps(value)}")
        if not 0 < value <= _MAX_NUMBER:  # an int too large for a float, too
            raise self.fail(key, f"must be positive and at most 2**53, got {value}")
        return value

    def one_of(self, keys: tuple[str, ...]) -> str | None:
        """The one key of these aliases that is set; None where none is."""
        found = [key for key in keys if self.values.get(key) is not None]
        if any(self.values[key] != self.values[found[0]] for key in found):
            raise self.fail(" and ".join(found), "disagree; keep one")
        return found[0] if found else None


def read_config(path: Path) -> ConfigReader:
    """Parse a config.json strictly: no duplicate keys, no NaN, an object at the top.

    Raises:
        InputError: the file is missing, not JSON, or not an object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text, so not a config.json") from error

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise InputError(f"{path}: {key}: appears twice")
            values[key] = value
        return values

    def refuse(constant: str) -> float:
        raise InputError(f"{path}: {constant} is not a JSON number")

    try:
        values = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no JSON object, so it is not a config.json")
    return ConfigReader(values, str(path))


def read_design(path: Path) -> Design:
    """The design a config.json describes.

    Raises:
        InputError: names the file, the key, its value and what is expected.
    """
    reader = read_config(path)
    model_type = reader.values.get("model_type")
    architectures = reader.values.get("architectures") or []
    if not isinstance(architectures, list):
        raise reader.fail("architectures", f"must be a list, got {json.dumps(architectures)}")
    if model_type == DECODER_MODEL_TYPE:
        read_model: Callable[[ConfigReader], ModelSpec] = _read_decoder
    elif model_type in _LONGCAT_MODEL_TYPES or any(
        name in _LONGCAT_ARCHITECTURES for name in architectures
    ):
        read_model = _read_longcat
    else:
        raise reader.fail(
            "model_type",
            f"{json.dumps(model_type)} (architectures {json.dumps(architectures)}) is not "
            f"understood; known: {', '.join((*_LONGCAT_MODEL_TYPES, DECODER_MODEL_TYPE))}",
        )
    for switch in _UNSUPPORTED_SWITCHES:
        if reader.values.get(switch):
            value = json.dumps(reader.values[switch])
            raise reader.fail(switch, f"{value} is not understood; only false is")
    try:
        model = read_model(reader)
        return Design(model=model, ngram=_read_ngram(reader, model))
    except SpecError as error:
        raise InputError(f"{path}: {error}") from error


def _read_longcat(reader: ConfigReader) -> LongcatModel:
    layers_key = "num_layers" if "num_layers" in reader.values else "num_hidden_layers"
    num_layers = reader.whole(layers_key)
    if layers_key == "num_hidden_layers":  # exports count each of the two sub-layers
        if num_layers % 2:
            raise reader.fail(layers_key, f"counts sub-layers, so must be even, got {num_layers}")
        num_layers //= 2
    index_n_heads = reader.whole("index_n_heads", minimum=0, default=0)
    if index_n_heads and reader.values.get("index_k_norm_type") != "rms":
        norm = json.dumps(reader.values.get("index_k_norm_type"))
        raise reader.fail("index_k_norm_type", f'must be "rms" beside index_n_heads, got {norm}')
    return LongcatModel(
        vocab_size=reader.whole("vocab_size"),
        hidden_size=reader.whole("hidden_size"),
        num_layers=num_layers,
        ffn_hidden_size=reader.whole("ffn_hidden_size"),
        expert_ffn_hidden_size=reader.whole("expert_ffn_hidden_size"),
        n_routed_experts=reader.whole("n_routed_experts"),
        zero_expert_num=reader.whole("zero_expert_num", minimum=0, default=0),
        moe_topk=reader.whole("moe_topk"),
        num_attention_heads=reader.whole("num_attention_heads"),
        q_lora_rank=reader.whole("q_lora_rank"),
        kv_lora_rank=reader.whole("kv_lora_rank"),
        qk_nope_head_dim=reader.whole("qk_nope_head_dim"),
        qk_rope_head_dim=reader.whole("qk_rope_head_dim"),
        v_head_dim=reader.whole("v_head_dim"),
        num_mtp_layers=reader.whole("mtp_num_layers", minimum=0, default=0),
        index_n_heads=index_n_heads,
        index_head_dim=reader.whole("index_head_dim") if index_n_heads else 0,
    )


def _read_decoder(reader: ConfigReader) -> DecoderModel:
    return DecoderModel(
        vocab_size=reader.whole("vocab_size"),
        hidden_size=reader.whole("hidden_size"),
        num_hidden_layers=reader.whole("num_hidden_layers"),
        num_attention_heads=reader.whole("num_attention_heads"),
        num_key_value_heads=reader.whole("num_key_value_heads"),
        head_dim=reader.whole("head_dim"),
        moe_intermediate_size=reader.whole("moe_intermediate_size"),
        num_experts=reader.whole("num_experts"),
        num_experts_per_tok=reader.whole("num_experts_per_tok"),
        rope_theta=reader.number("rope_theta", default=10_000.0),
        rms_norm_eps=reader.number("rms_norm_eps", default=1e-6),
    )


def _read_ngram(reader: ConfigReader, model: ModelSpec) -> NgramSpec | None:
    extension = _read_extension(reader)
    ratio_key = reader.one_of(_NGRAM_KEYS["ratio"])
    order_key = reader.one_of(_NGRAM_KEYS["max_order"])
    split_key = reader.one_of(_NGRAM_KEYS["num_subtables"])
    if ratio_key is None and order_key is None and split_key is None:
        if extension:
            raise reader.fail(EXTENSION_KEY, "is set, but the n-gram keys it extends are not")
        return None
    if order_key is None or split_key is None:
        missing = _NGRAM_KEYS["max_order" if order_key is None else "num_subtables"]
        raise reader.fail(" or ".join(missing), "is missing, but other n-gram keys are set")
    max_order, num_subtables = reader.whole(order_key, minimum=2), reader.whole(split_key)
    num_tables = (max_order - 1) * num_subtables
    check_num_tables(num_tables, hidden_size=model.hidden_size)
    rows = extension.get("table_rows")
    if rows is None:
        if ratio_key is None:
            raise reader.fail(
                " or ".join(_NGRAM_KEYS["ratio"]),
                f"is missing, and {EXTENSION_KEY}.table_rows does not give the sizes either",
            )
        rows = longcat_rows(reader.number(ratio_key), model.vocab_size, num_tables)
    elif not isinstance(rows, list) or not all(type(size) is int for size in rows):
        raise reader.fail(f"{EXTENSION_KEY}.table_rows", "must be a list of whole numbers")
    if extension.get("policy", "hf") == "no_eos":
        boundary = None
    else:
        boundary = reader.whole("eos_token_id", minimum=0)
    return NgramSpec(
        hash_base=model.vocab_size,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=tuple(rows),
        boundary_token=boundary,
        amplification=extension.get("amplification", "none"),
    )


def _read_extension(reader: ConfigReader) -> dict[str, Any]:
    extension = reader.values.get(EXTENSION_KEY, {})
    if not isinstance(extension, dict):
        raise reader.fail(EXTENSION_KEY, "must be an object")
    known = {"table_rows", "policy", "amplification"}
    if unknown := sorted(set(extension) - known):
        raise reader.fail(
            f"{EXTENSION_KEY}.{unknown[0]}", f"is not known; known: {', '.join(sorted(known))}"
        )
    if extension.get("policy", "hf") not in ("hf", "no_eos"):
        raise reader.fail(f"{EXTENSION_KEY}.policy", 'must be "hf" or "no_eos"')
    return extension


def decoder_config(design: Design) -> dict[str, Any]:
    """config.json of a design on ngscale's own decoder; ``read_design`` gives it back.

    Raises:
        SpecError: the model is of another family, or the hash base is not the vocabulary size.
    """
    model = design.model
    if not isinstance(model, DecoderModel):
        raise SpecError("only ngscale's own decoder is written; got a LongCat model")
    config: dict[str, Any] = {
        "architectures": ["NgscaleMoeForCausalLM"],
        "model_type": DECODER_MODEL_TYPE,
        **{name: getattr(model, name) for name in DecoderModel.__dataclass_fields__},
        "tie_word_embeddings": False,
    }
    spec = design.ngram
    if spec is not None:
        if spec.hash_base != model.vocab_size:
            raise SpecError(
                f"hash_base {spec.hash_base} is not vocab_size {model.vocab_size}; "
                "config.json cannot say that"
            )
        config |= {
            "emb_neighbor_num": spec.max_order,
            "emb_split_num": spec.num_subtables,
            EXTENSION_KEY: {
                "table_rows": list(spec.table_rows),
                "policy": spec.policy,
                "amplification": spec.amplification,
            },
        }
        if spec.boundary_token is not None:
            config["eos_token_id"] = spec.boundary_token
    return config
