"""Facts of published designs, and amounts to vary."""

from ngscale.budget.evidence import Facts
from ngscale.budget.evidence.law import Amount

LITE = Facts(
    total_parameters=68_562_465_024,
    active_parameters=2_920_518_912,
    vocabulary_parameters=2 * 131_072 * 3_072,
    active_vocabulary_parameters=131_072 * 3_072,
    ngram_parameters=31_406_985_216,
    num_experts=256,
    num_experts_per_tok=12,
    max_order=4,
    num_subtables=4,
    hash_base=131_072,
    table_rows=tuple(range(10_223_617, 10_223_640, 2)),
    num_shortcut_layers=14,
)
"""LongCat-Flash-Lite (arXiv:2601.21204; EVIDENCE 6, item 1); its head is counted active."""

BARE = Facts(
    total_parameters=4_980_000_000,
    active_parameters=823_000_000,
    vocabulary_parameters=167_000_000,
    active_vocabulary_parameters=0,
    ngram_parameters=0,
    num_experts=8,
    num_experts_per_tok=1,
    training_tokens=16_800_000_000,
)
"""A Switch model of the size that arXiv:2502.05172 calls optimal at C = 1e20 and E = 8."""


def traded(*, share_of_total: float, ratio: float, active: int = 993_000_000) -> Facts:
    """A design without vocabulary: this share of total in tables at this total/active ratio."""
    total = round(ratio * active)
    return Facts(
        total_parameters=total,
        active_parameters=active,
        vocabulary_parameters=0,
        active_vocabulary_parameters=0,
        ngram_parameters=round(share_of_total * total),
        num_experts=99,
        num_experts_per_tok=2,
    )


def without(amounts: dict[str, Amount], name: str) -> dict[str, Amount]:
    """The same amounts but one."""
    return {key: amount for key, amount in amounts.items() if key != name}
