"""A design -> the facts that the evidence is asked about."""

from typing import Literal

from ngscale.budget.evidence.facts import Facts
from ngscale.model_spec import Design, LongcatModel
from ngscale.params import (
    active_experts,
    active_parameters,
    num_experts,
    parameter_groups,
    total_parameters,
)


def facts_of(
    design: Design, *, real_experts: Literal["fewest", "most"], training_tokens: int | None = None
) -> Facts:
    """Counts of ``design``; active parameters by the convention ``with_projections``.

    ``real_experts``: with zero experts the active parameters are a range, and total/active with
    them (Lite: 15 to 23), so whoever asks must say at which end.
    """
    groups, spec = parameter_groups(design), design.ngram
    active = active_parameters(design)["with_projections"]
    fewest, most = active_experts(design.model)
    return Facts(
        total_parameters=total_parameters(design),
        active_parameters=active.minimum if real_experts == "fewest" else active.maximum,
        vocabulary_parameters=groups["word_embedding"] + groups["lm_head"],
        active_vocabulary_parameters=groups["lm_head"],
        ngram_parameters=groups["ngram_tables"],
        num_experts=num_experts(design.model),
        num_experts_per_tok=fewest if real_experts == "fewest" else most,
        max_order=None if spec is None else spec.max_order,
        num_subtables=None if spec is None else spec.num_subtables,
        hash_base=None if spec is None else spec.hash_base,
        table_rows=() if spec is None else spec.table_rows,
        num_shortcut_layers=(
            design.model.num_layers if isinstance(design.model, LongcatModel) else None
        ),
        training_tokens=training_tokens,
        injection_layers=None if spec is None else spec.layers,
    )
