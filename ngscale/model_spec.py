"""Design = a model and its n-gram tables, read from and written to Hugging Face config.json.

Two families are understood: LongCat-Flash (shortcut-connected MoE with MLA, with the
``ngram_*``/``emb_*`` keys of Flash-Lite or the ``oe_*`` keys of LongCat-2.0) and ngscale's own
small decoder. What the HF keys cannot say is kept in an extension block, ``"ngscale": {...}``.
Standard library only.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.config_reader import ConfigReader, read_config
from ngscale.errors import InputError, SpecError
from ngscale.ngram_config import (
    DECODER_MODEL_TYPE,
    EXTENSION_KEY,
    LONGCAT_MODEL_TYPES,
    check_num_tables,
    is_longcat,
    read_longcat,
    spec_json,
)
from ngscale.policy import mode_policy
from ngscale.spec import NgramSpec

_UNSUPPORTED_SWITCHES = ("tie_word_embeddings", "attention_bias", "router_bias")
"""Keys that, when true, change the tensors in a way no design here can say."""


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


def read_design(path: Path) -> Design:
    """The design a config.json describes.

    Raises:
        InputError: names the file, the key, its value and what is expected.
    """
    reader = read_config(path)
    if reader.model_type == DECODER_MODEL_TYPE:
        read_model: Callable[[ConfigReader], ModelSpec] = _read_decoder
    elif is_longcat(reader):
        read_model = _read_longcat
    else:
        raise reader.unknown_family((*LONGCAT_MODEL_TYPES, DECODER_MODEL_TYPE))
    for switch in _UNSUPPORTED_SWITCHES:
        if reader.values.get(switch):
            value = json.dumps(reader.values[switch])
            raise reader.fail(switch, f"{value} is not understood; only false is")
    try:
        model = read_model(reader)
        return Design(model=model, ngram=read_longcat(reader))
    except SpecError as error:
        raise InputError(f"{path}: {error}") from error


def _read_longcat(reader: ConfigReader) -> LongcatModel:
    if "text_vocab_size" in reader.values:
        raise reader.fail(
            "text_vocab_size", "a joint vocabulary's embedding and lm_head are not counted here"
        )
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
        if spec.hash_base != model.vocab_size or spec.num_subtables is None:
            raise SpecError(
                f"hash base {spec.hash_base} with orders {spec.table_orders} is not LongCat's hash "
                f"in base {model.vocab_size}; config.json cannot say that"
            )
        boundaries = spec.policy.boundary_tokens
        config |= {
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
        if len(boundaries) == 1:
            config["eos_token_id"] = boundaries[0]
    return config


def _policy_name(spec: NgramSpec) -> str | None:
    """The mode whose policy this is, where one is and config.json's keys decide its fields."""
    boundary = spec.policy.boundary_tokens[0] if spec.policy.boundary_tokens else None
    modes = ("hf", "vllm_neg") if boundary is not None else ("no_eos",)
    return next((mode for mode in modes if mode_policy(mode, boundary) == spec.policy), None)
