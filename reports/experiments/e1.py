"""E1, Pareto: experts against tables at two base ratios of total to active (the paper's Fig. 2)."""

from dataclasses import replace

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.params import parameter_equivalent_moe, total_parameters
from reports.experiments.scale import BACKBONE, Arm, clean_rows, design_of, tables

NARROW = replace(BACKBONE, hidden_size=64, num_attention_heads=2)
"""0.34M active parameters."""
RATIOS = (4, 12)
SHARES = (0.25, 0.5)
MAX_ORDER, NUM_SUBTABLES = 3, 2
TOKENS = 6_836 * 1_024
"""20 tokens per active parameter."""


def arms() -> list[Arm]:
    """Per ratio the base, and per share its tables beside the MoE of as many parameters."""
    found = []
    for ratio in RATIOS:
        base = _base(ratio)
        found.append(_arm(ratio, 0.0, "MoE", Design(model=decoder_model(base))))
        for share in SHARES:
            design = _with_tables(base, share)
            found.append(_arm(ratio, share, "tables", design))
            found.append(_arm(ratio, share, "MoE", parameter_equivalent_moe(design)))
    return found


def active(design: Design) -> int:
    """Per token, with lm_head and projections and without the rows of embeddings read."""
    from ngscale.params import ACTIVE_CONVENTION, active_parameters

    return active_parameters(design)[ACTIVE_CONVENTION].maximum


def _base(ratio: int) -> DecoderConfig:
    """Experts until the total is ``ratio`` times what is active."""

    def gap(count: int) -> float:
        design = Design(model=decoder_model(replace(NARROW, num_experts=count)))
        return abs(total_parameters(design) / active(design) - ratio)

    return replace(NARROW, num_experts=min(range(4, 400), key=gap))


def _with_tables(base: DecoderConfig, share: float) -> Design:
    total = total_parameters(Design(model=decoder_model(base))) / (1 - share)
    rows = round(share * total / base.hidden_size)
    return design_of(
        tables(MAX_ORDER, NUM_SUBTABLES, clean_rows(MAX_ORDER, NUM_SUBTABLES, rows)),
        backbone=base,
    )


def _arm(ratio: int, share: float, kind: str, design: Design) -> Arm:
    return Arm(
        name=f"{ratio}x {share:.0%} {kind}",
        design=design,
        tokens=TOKENS,
        facts={"base_ratio": ratio, "share": share, "kind": kind},
    )
