"""Every law, rule and fixed-total study, in reporting order."""

from ngscale.budget.evidence import (
    abnar,
    chinchilla,
    clark,
    engram,
    joint_moe,
    krajewski,
    ling,
    longcat,
    practice,
    qwen,
    tao,
    vocabulary_slopes,
)
from ngscale.budget.evidence.law import Law
from ngscale.errors import UsageError

LAWS = (
    *joint_moe.LAWS,
    *abnar.LAWS,
    *ling.LAWS,
    *clark.LAWS,
    *krajewski.LAWS,
    *chinchilla.LAWS,
    *tao.LAWS,
    *vocabulary_slopes.LAWS,
    *qwen.LAWS,
)
RULES = (*longcat.RULES, *engram.RULES, *qwen.RULES, *practice.RULES)
CURVES = (engram.CURVE, qwen.CURVE)


def law_named(key: str) -> Law:
    """The law of this key.

    Raises:
        UsageError: there is none.
    """
    for law in LAWS:
        if law.key == key:
            return law
    raise UsageError(f"{key}: is no known law; known: {', '.join(law.key for law in LAWS)}")
