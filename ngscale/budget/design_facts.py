"""A design -> the facts that the evidence is asked about."""

from typing import Literal

from ngscale.budget.evidence.facts import Facts
from ngscale.design import Design
from ngscale.errors import SpecError
from ngscale.model_spec import ModelSpec
from ngscale.params import (
    ACTIVE_CONVENTION,
    active_parameters,
    moe_of,
    parameter_groups,
    total_parameters,
)


def facts_of(
    design: Design, *, real_experts: Literal["fewest", "most"], training_tokens: int | None = None
) -> Facts:
    """Counts of ``design``; active parameters by ``ACTIVE_CONVENTION``.

    ``real_experts``: with zero experts the active parameters are a range, and total/active with
    them (Lite: 15 to 23), so whoever asks must say at which end. A model without experts is one
    expert that is always chosen.
    """
    groups = parameter_groups(design)
    active = active_parameters(design)[ACTIVE_CONVENTION]
    try:
        experts = moe_of(design.model)
        num_experts, chosen = experts.num_experts, experts.active_range
    except SpecError:
        num_experts, chosen = 1, (1, 1)
    spec = design.ngrams[0] if len(design.ngrams) == 1 else None
    layers = tuple(layer for one in design.ngrams for layer in one.layers)
    return Facts(
        total_parameters=total_parameters(design),
        active_parameters=active.minimum if real_experts == "fewest" else active.maximum,
        vocabulary_parameters=groups["word_embedding"] + groups["lm_head"],
        active_vocabulary_parameters=vocabulary_counted(groups, active.groups),
        ngram_parameters=groups["ngram_tables"],
        num_experts=num_experts,
        num_experts_per_tok=chosen[real_experts == "most"],
        max_order=None if spec is None else spec.max_order,
        num_subtables=None if spec is None else spec.num_subtables,
        hash_base=None if spec is None else spec.hash_base,
        table_rows=() if spec is None else spec.table_rows,
        num_shortcut_layers=shortcut_layers(design.model),
        training_tokens=training_tokens,
        injection_layers=layers if design.ngrams else None,
    )


def vocabulary_counted(groups: dict[str, int], counted: tuple[str, ...]) -> int:
    """Parameters of word embedding and head in a convention's groups."""
    return sum(groups[group] for group in ("word_embedding", "lm_head") if group in counted)


def shortcut_layers(model: ModelSpec) -> int | None:
    """Layers of LongCat's kind, with two attentions and two dense sub-layers; None of others."""
    if all(len(layer.attentions) == 2 for _, layer in model.layers):
        return model.num_layers
    return None
