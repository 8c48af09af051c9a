"""Rules on where tables are read and how they are trained, and what shares models shipped with."""

from ngscale.budget.evidence.facts import Facts
from ngscale.budget.evidence.rule import Measure, Rule

SHIPPED = {
    "LongCat-Flash-Lite": (31_406_985_216, 68_562_465_024),
    "LongCat-2.0": (135e9, 1.6e12),
    "DeepSeek-V4.1-Flash": (196e9, 552e9 + 196e9),
    "Qwen3.8-Flash-Next": (51.2e9, 125e9 + 51.2e9),
}
"""(table, total) parameters; from published, rounded sizes except Lite's. LongCat-2.0's and
DeepSeek-V4.1's are from secondary accounts.
"""


def shipped_shares() -> dict[str, float]:
    """Tables' share of total parameters in released models: practice, not an optimum."""
    return {name: tables / total for name, (tables, total) in SHIPPED.items()}


def _placement(facts: Facts) -> Measure:
    layers = facts.injection_layers
    if layers is None:
        return Measure(value=None, keeps=None, sentence="where tables are read is unknown")
    if not layers:
        sentence = "tables are read at the input embedding, which neither study compared"
        return Measure(value=None, keeps=None, sentence=sentence)
    return Measure(
        value=layers[0],
        keeps=len(layers) == 1 and layers[0] <= 1,
        sentence=f"tables are read in hidden layers {', '.join(map(str, layers))} (0-based); one "
        "early layer (the 2nd) was as good as several",
    )


def _optimiser(facts: Facts) -> Measure:
    factor, decay = facts.table_lr_factor, facts.table_weight_decay
    if factor is None or decay is None:
        return Measure(value=None, keeps=None, sentence="how tables are optimised is unknown")
    return Measure(
        value=factor,
        keeps=factor == 5 and decay == 0,
        sentence=f"tables learn at {factor:g} times the base rate with weight decay {decay:g}; "
        "published runs used 5 times (Engram, DeepSeek-V4.1) and no decay",
    )


RULES = (
    Rule(
        key="placement",
        source="Qwen3.8-Flash-Next tech report (Table 7); arXiv:2601.07372 (placement study)",
        standing="published",
        statement="one early hidden layer suffices",
        numbers={"layer": 1},
        units="hidden layer, 0-based",
        denominator="a fixed table budget",
        scope="gated injection into hidden layers, not the input embedding",
        validity=(),
        measure=_placement,
    ),
    Rule(
        key="optimiser",
        source="arXiv:2601.07372 (Table 5); Qwen3.8-Flash-Next tech report; DeepSeek-V4.1-Flash",
        standing="published",
        statement="tables by Adam at 5 times the base rate without weight decay",
        numbers={"lr_factor": 5, "weight_decay": 0},
        units="factor",
        denominator="base learning rate",
        scope="Engram type; Qwen3.8 states no factor, DeepSeek-V4.1 is by a secondary account",
        validity=(),
        measure=_optimiser,
    ),
)
