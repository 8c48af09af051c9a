"""Choices and verdicts as the stages would give them."""

from typing import Any

from ngscale.plan.choices import MOE, Choice, Choices
from ngscale.plan.grades import Grade, Trained, grade
from ngscale.plan.verdicts import Stand, Verdict
from ngscale.records import RunRecord
from ngscale.train_small.comparison import Verdict as Said

PLACEBOS = ("unigram-tables", "capacity-1")


def choice(name: str, *, loss: float | None = None, share: float = 0.3, **changed: Any) -> Choice:
    known: dict[str, Any] = {
        "name": name,
        "why": "of a test",
        "config": {},
        "ngram_share": 0.0 if name == MOE else share,
        "total_parameters": 100,
        "active_parameters": 10,
        "hbm_bytes": 200,
        "host_bytes": 0,
        "fits": True,
        "loss_difference": loss,
        "loss_reason": "",
    }
    return Choice(**{**known, **changed})


def choices(*designs: Choice) -> Choices:
    return Choices(designs=designs, patch=None, notes=())


def sure(num_seeds: int, tokens: float, *, undecided: bool = False) -> Grade:
    verdicts: tuple[Said, ...] = ("undecided" if undecided else "better",)
    return grade(
        Trained(num_seeds=num_seeds, tokens_per_active_parameter=tokens, verdicts=verdicts)
    )


def verdict_on(name: str, stand: Stand, difference: float | None = None) -> Verdict:
    made = {"wins": sure(3, 20), "fails": sure(3, 20), "open": grade(None)}[stand]
    if stand == "open" and difference is not None:
        made = sure(3, 1)
    return Verdict(candidate=name, stand=stand, grade=made, difference=difference, sentence="")


def training_record(tokens: int, seeds: int = 3, *, but: str = "", said: str = "") -> RunRecord:
    """Of train-small, with 10 active parameters; all arms are won against, ``but`` for one."""
    arms = ("equivalent-moe", *PLACEBOS, "base-moe")
    return RunRecord(
        verb="train-small",
        answer="",
        inputs={"tokens": tokens, "seeds": list(range(seeds))},
        results={
            "shrunk": {"kept": [], "resonance": "", "lost": ["The shortcut block."]},
            "arms": [{"name": "design", "active_parameters": 10}],
            "comparisons": [
                {
                    "baseline": arm,
                    "verdict": said if arm == but else "better",
                    "mean_difference": -0.1,
                    "low": -0.2,
                    "high": 0.0,
                }
                for arm in arms
            ],
        },
    )
