"""``--emit-arms``: the design of a checkpoint under every amplification, for train-small to decide.

A checkpoint with n-gram tables gives its own design. A decoder without gets tables by a rule: of
orders 2 and 3, two each (arXiv:2601.21204: N >= 3 and K >= 2 are within noise), LongCat's hash at
the sound ratio nearest to as many parameters as the decoder has, which is half of the total (its
Principle 2: at most 50%). One with dense layers becomes ngscale's own decoder, its feed-forward
block cut into up to 16 experts that every token takes, so that the parameter-equivalent MoE finds
experts small enough to match; norms, biases and position codes are lost.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.corpus import embedded_dir
from ngscale.design import Design, design_config, read_design
from ngscale.errors import InputError, SpecError
from ngscale.model_spec import GroupedAttention, ModelSpec
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.params import ACTIVE_CONVENTION, active_parameters, total_parameters
from ngscale.policy import mode_policy
from ngscale.records import dump_json, write_atomic
from ngscale.row_counts import longcat_rows
from ngscale.spec import Amplification, longcat_spec
from ngscale.table_sizes import sound_ratio

MAX_ORDER, NUM_SUBTABLES = 3, 2
_PARTS = 16
MOST_ACTIVE, PROXY = 1_000_000, "1M"
"""Designs with more active parameters are trained as a proxy of about so many."""
WAY_OUT = (
    "write its config.json with n-gram tables yourself and run ngscale train-small FILE --arm "
    "amplification"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """What was written, and how to train it."""

    names: tuple[str, ...]
    """Of the candidates: ``<directory>/<name>/config.json``."""
    left_out: tuple[str, ...]
    """A clause for each amplification that there is no candidate of."""
    commands: tuple[str, ...]
    """To train all against their parameter-equivalent MoE, then none against sqrt(D) directly."""


def arms_design(directory: Path) -> Design:
    """The design that the arms are made of.

    Raises:
        InputError: config.json cannot be read as a design, or no tables fit it; tells what to do.
    """
    path = directory / "config.json"
    try:
        design = read_design(path)
        made = design if design.ngrams else with_tables(design.model)
        for spec in made.ngrams:
            replace(spec, amplification="sqrt_d", amplification_factor=1.0)
        return made
    except SpecError as error:
        raise InputError(f"--emit-arms: {path}: {error}; {WAY_OUT}") from error
    except InputError as error:
        raise InputError(f"--emit-arms: {error}; {WAY_OUT}") from error


def with_tables(model: ModelSpec) -> Design:
    """The model with tables by the rule of the module docstring.

    Raises:
        SpecError: its dense layers differ, or no sizes near are sound.
    """
    backbone = model if model.moe_layers else decoder_model(_dense(model))
    num_tables = (MAX_ORDER - 1) * NUM_SUBTABLES
    width = backbone.hidden_size // num_tables
    if not width:
        raise SpecError(
            f"hidden_size {backbone.hidden_size} has no columns for {num_tables} tables"
        )
    V = backbone.vocab_size
    wanted = total_parameters(Design(model=backbone)) / (num_tables * width * V)
    spec = longcat_spec(
        vocab_size=V,
        max_order=MAX_ORDER,
        num_subtables=NUM_SUBTABLES,
        table_rows=(1,) * num_tables,
        policy=mode_policy("no_eos", None),
    )
    ratio = sound_ratio(round(wanted, 3), V, spec.table_orders)
    if ratio is None:
        raise SpecError(f"no table sizes near {wanted:.3f} x {V} pass the audit")
    tables = replace(spec, table_rows=longcat_rows(ratio, V, num_tables))
    return Design(model=backbone, ngrams=(tables,))


def _dense(model: ModelSpec) -> DecoderConfig:
    """A dense decoder as ngscale's own."""
    blocks = {block for _, block in model.attentions}
    heads = {
        (block.num_heads, block.num_kv_heads, block.head_dim)
        for block in blocks
        if isinstance(block, GroupedAttention)
    }
    widths = {ffn.intermediate_size for _, layer in model.layers for ffn in layer.ffns}
    if (
        len(heads) != 1
        or len(widths) != 1
        or not all(isinstance(block, GroupedAttention) for block in blocks)
    ):
        raise SpecError("layers: have several shapes of attention or feed-forward blocks")
    ((num_heads, num_kv_heads, head_dim),), (width,) = heads, widths
    parts = math.gcd(_PARTS, width)
    return DecoderConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        head_dim=head_dim,
        moe_intermediate_size=width // parts,
        num_experts=parts,
        num_experts_per_tok=parts,
        routed_scaling_factor=float(parts),  # their weights sum to 1
    )


def emit_arms(
    design: Design,
    factors: Mapping[Amplification, float | None],
    out: Path,
    *,
    checkpoint: Path,
) -> Emitted:
    """Write a candidate per amplification; ``factors`` are those of the advice.

    Raises:
        InputError: the directory cannot be written, or a config cannot say the design.
        ResourceError: the disk is full.
    """
    designs, left_out = arm_designs(design, factors)
    for name, one in designs.items():
        try:
            config = design_config(one)
        except SpecError as error:
            raise InputError(f"--emit-arms: {error}; {WAY_OUT}") from error
        write_atomic(out / name / "config.json", dump_json(config).encode())
    options = _options(design, checkpoint)
    return Emitted(
        names=tuple(designs),
        left_out=left_out,
        commands=(
            f"ngscale train-small {out}{options}",
            f"ngscale train-small {out / 'none' / 'config.json'}{options} --arm amplification",
        ),
    )


def arm_designs(
    design: Design, factors: Mapping[Amplification, float | None]
) -> tuple[dict[str, Design], tuple[str, ...]]:
    """By amplification; a clause for each that there is none of.

    The measured factor is on top of what the design already does.
    """
    (spec, *_) = design.ngrams
    own = {"sqrt_d": design.model.hidden_size**0.5}.get(
        spec.amplification, spec.amplification_factor
    )
    scalar = factors["scalar"]
    assert scalar is not None
    left_out = []
    if scalar <= 1:
        left_out.append("scalar: s is 1, the same as none")
    elif spec.amplification == "layernorm":
        left_out.append("scalar: s was measured behind a LayerNorm, so it is none without")
    designs = {}
    for name in factors:
        if name == "scalar" and left_out:
            continue
        factor = float(f"{own * scalar:.6g}") if name == "scalar" else 1.0
        designs[name] = replace(
            design,
            ngrams=tuple(
                replace(one, amplification=name, amplification_factor=factor)
                for one in design.ngrams
            ),
        )
    return {str(name): one for name, one in designs.items()}, tuple(left_out)


def _options(design: Design, checkpoint: Path) -> str:
    """What makes train-small take the designs: a proxy of large ones, else their tokenizer."""
    active = active_parameters(design)[ACTIVE_CONVENTION].maximum
    if active > MOST_ACTIVE or design.model.model_type != DECODER_MODEL_TYPE:
        return f" --proxy {PROXY}"
    embedded = embedded_dir() / "tokenizers" / f"bpe-{design.model.vocab_size}"
    return "" if embedded.is_dir() else f" --tokenizer {checkpoint}"
