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
