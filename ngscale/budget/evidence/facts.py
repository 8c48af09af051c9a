"""What the evidence is asked about: the counts of one design, and shares by each denominator."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ngscale.budget.evidence.law import Amount
from ngscale.errors import SpecError

Denominator = Literal["total parameters", "sparse parameters", "total budget"]
"""Sparse: Engram's P_tot - P_act, both without word embedding and LM head. Total
budget: what a study that trades experts for tables holds fixed; of one design it is the total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Counts of a design; ``None`` where nobody said."""

    total_parameters: int
    active_parameters: int
    """By one named convention; of a model with zero experts, at one end of their range."""
    vocabulary_parameters: int
    """Word embedding and LM head, within the total."""
    active_vocabulary_parameters: int
    """What of them ``active_parameters`` counts."""
    ngram_parameters: int
    """Rows of the tables, without projections."""
    num_experts: int
    num_experts_per_tok: int
    max_order: int | None = None
    num_subtables: int | None = None
    hash_base: int | None = None
    table_rows: tuple[int, ...] = ()
    num_shortcut_layers: int | None = None
    """A shortcut layer of LongCat is two ordinary ones."""
    training_tokens: int | None = None
    first_attention_ratio: float | None = None
    """||attn_out|| / ||resid_pre|| of the first attention, as ``ngscale probe`` measures it."""
    injection_layers: tuple[int, ...] | None = None
    """Hidden layers that read the tables, 0-based; empty: the input embedding alone."""
    table_lr_factor: float | None = None
    table_weight_decay: float | None = None

    def __post_init__(self) -> None:
        """Refuse counts that contradict each other."""
        if self.active_parameters < 1:
            raise SpecError(f"active_parameters {self.active_parameters}: must be positive")
        if self.sparse_parameters < self.ngram_parameters:
            raise SpecError(
                f"ngram_parameters {self.ngram_parameters} are more than the "
                f"{self.sparse_parameters} inactive ones; they must be within the total and "
                "outside the active parameters"
            )

    @property
    def sparse_parameters(self) -> int:
        """Inactive parameters, vocabulary left out (arXiv:2601.07372 sec. 3)."""
        total = self.total_parameters - self.vocabulary_parameters
        return total - (self.active_parameters - self.active_vocabulary_parameters)

    @property
    def total_active_ratio(self) -> float:
        """The x-axis of arXiv:2601.21204 Fig. 2."""
        return self.total_parameters / self.active_parameters

    @property
    def base_ratio(self) -> float:
        """Total / active of the same model without its tables."""
        return (self.total_parameters - self.ngram_parameters) / self.active_parameters

    def whole(self, denominator: Denominator) -> int:
        """The parameters that a share by ``denominator`` is a share of."""
        return {
            "total parameters": self.total_parameters,
            "sparse parameters": self.sparse_parameters,
            "total budget": self.total_parameters,
        }[denominator]

    def share(self, denominator: Denominator) -> Fraction:
        """The n-gram tables' share, exactly."""
        whole = self.whole(denominator)
        return Fraction(self.ngram_parameters, whole) if whole else Fraction(0)

    def convert(self, share: Fraction, given: Denominator, wanted: Denominator) -> Fraction:
        """A share by one denominator as the same parameters' share by another, exactly."""
        return share * Fraction(self.whole(given), self.whole(wanted))


def amounts(facts: Facts) -> dict[str, Amount]:
    """The quantities that laws ask for, as far as the facts hold them."""
    dense = facts.active_parameters - facts.active_vocabulary_parameters
    inactive = facts.num_experts - facts.num_experts_per_tok
    found = {
        "ngram_parameters": Amount(facts.ngram_parameters, "parameters"),
        "total_parameters": Amount(facts.total_parameters, "parameters"),
        "active_parameters": Amount(facts.active_parameters, "parameters"),
        "active_parameters_with_vocabulary": Amount(
            dense + facts.vocabulary_parameters, "parameters"
        ),
        "non_vocabulary_parameters": Amount(
            facts.total_parameters - facts.vocabulary_parameters, "parameters"
        ),
        "vocabulary_parameters": Amount(facts.vocabulary_parameters, "parameters"),
        "num_experts": Amount(facts.num_experts, "experts"),
        "num_experts_per_tok": Amount(facts.num_experts_per_tok, "experts"),
        "inactive_experts": Amount(inactive / facts.num_experts, "share of experts"),
        "activation_ratio": Amount(
            facts.num_experts_per_tok / facts.num_experts, "share of experts"
        ),
        "total_active_ratio": Amount(facts.total_active_ratio, "total / active"),
        "share_of_total": Amount(
            float(facts.share("total parameters")), "share of total parameters"
        ),
        "share_of_sparse": Amount(
            float(facts.share("sparse parameters")), "share of sparse parameters"
        ),
        "share_of_budget": Amount(float(facts.share("total budget")), "share of total budget"),
    }
    if facts.training_tokens is not None:
        found["training_tokens"] = Amount(facts.training_tokens, "tokens")
        found["training_flops"] = Amount(
            6 * facts.active_parameters * facts.training_tokens, "FLOPs"
        )
        found["tokens_per_active_parameter"] = Amount(
            facts.training_tokens / facts.active_parameters, "tokens per active parameter"
        )
    if facts.table_rows:
        # The law's rows are one table's; the sizes of a design differ by a few rows only.
        found["table_rows"] = Amount(facts.table_rows[0], "rows")
        if facts.hash_base is not None:
            found["rows_per_base_id"] = Amount(
                facts.table_rows[0] / facts.hash_base, "rows per base id"
            )
    return found
