"""Cells -> what an experiment found: losses by arm and seed, paired differences, norms."""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ngscale.params import most_active, total_parameters
from ngscale.records import Figure, RunRecord, Table
from ngscale.train_small.comparison import Comparison, Pair, compare_all
from ngscale.units import format_count
from reports.experiments import cells
from reports.experiments.scale import CORPUS, CORPUS_SHA256, TOKENIZER, TOKENIZER_SHA256, Arm

PAPER_TOKENS_PER_PARAMETER = 47
"""300B tokens on 6.4B parameters, the paper's A280M runs (arXiv:2601.21204, Fig. 7a)."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the reports of all experiments begin with."""

    arms: Rows
    comparisons: Rows
    left_out: Sequence[str]
    """Families of which no seed is finished."""
    more: Mapping[str, Any]
    """What this experiment alone measures."""

    def difference(self, arm: str, baseline: str) -> Mapping[str, Any]:
        """Of one pair."""
        wanted = (arm, baseline)
        return next(c for c in self.comparisons if (c["arm"], c["baseline"]) == wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What an experiment trains, compares and says."""

    slug: str
    title: str
    published: str
    """What it is held against, with its source."""
    arms: Callable[[], list[Arm]]
    pairs: Callable[[Sequence[Arm]], list[tuple[str, str]]]
    """(arm, baseline) of every comparison that the experiment was made for."""
    columns: Mapping[str, str]
    """Facts of the arms that the table shows, with their titles."""
    answer: Callable[[Found], str]
    figures: Callable[[Found], tuple[Figure, ...]]
    measure: Callable[[Sequence[Arm], Sequence[Mapping[str, Any]]], dict[str, Any]] = field(
        default=lambda arms, cells: {}
    )
    """More to measure, from arms and their cells of the first seed."""
    tables: Callable[[Found], tuple[Table, ...]] = field(default=lambda found: ())
    """Of what it alone measures."""


def complete_seeds(arms: Sequence[Arm], num_seeds: int) -> dict[str, list[int]]:
    """By family those of which every arm is finished."""
    families: dict[str, list[Arm]] = {}
    for arm in arms:
        families.setdefault(arm.family, []).append(arm)
    return {
        family: [
            seed
            for seed in range(num_seeds)
            if all(cells.load(arm, seed) is not None for arm in of_family)
        ]
        for family, of_family in families.items()
    }


def make_record(name: str, experiment: Experiment, num_seeds: int) -> RunRecord | None:
    """From committed cells alone; None where no seed is complete."""
    every = experiment.arms()
    complete = complete_seeds(every, num_seeds)
    arms = [arm for arm in every if complete[arm.family]]
    if not arms:
        return None
    seeds = {arm.name: complete[arm.family] for arm in arms}
    runs = {arm.name: [cells.read(arm, seed) for seed in seeds[arm.name]] for arm in arms}
    losses = {name: [run["val_loss_nats"] for run in of_arm] for name, of_arm in runs.items()}
    pairs = experiment.pairs(arms)
    compared = compare_all([Pair(base, losses[arm], losses[base], arm) for arm, base in pairs])
    found = Found(
        arms=[_arm_row(arm, seeds[arm.name], runs[arm.name]) for arm in arms],
        comparisons=[_comparison_row(item) for item in compared],
        left_out=[family for family, finished in complete.items() if not finished],
        more=experiment.measure(arms, [runs[arm.name][0] for arm in arms]),
    )
    return RunRecord(
        verb="experiment",
        answer=f"{experiment.answer(found)} {_scale(found)}",
        inputs={
            "experiment": name,
            "corpus": {"name": CORPUS, "sha256_of_tokens": CORPUS_SHA256},
            "tokenizer": {"name": TOKENIZER, "sha256": TOKENIZER_SHA256},
            "cells": {
                arm.name: [cells.name_of(arm, seed) for seed in seeds[arm.name]] for arm in arms
            },
        },
        results={
            "arms": found.arms,
            "comparisons": found.comparisons,
            "left_out": found.left_out,
            "more": found.more,
        },
    )


def found_in(record: RunRecord) -> Found:
    """What a record says."""
    results = record.results
    return Found(
        arms=results["arms"],
        comparisons=results["comparisons"],
        left_out=results["left_out"],
        more=results["more"],
    )


def _arm_row(arm: Arm, seeds: Sequence[int], runs: Rows) -> dict[str, Any]:
    losses = [run["val_loss_nats"] for run in runs]
    total = total_parameters(arm.design)
    active = most_active(arm.design)
    return {
        "arm": arm.name,
        **arm.facts,
        "total_parameters": total,
        "active_parameters": active,
        "tokens": arm.tokens,
        "tokens_per_parameter": arm.tokens / total,
        "tokens_per_active_parameter": arm.tokens / active,
        "seeds": seeds,
        "losses": losses,
        "mean_loss": statistics.fmean(losses),
        "val_curve": [
            [points[0][0], statistics.fmean(loss for _, loss in points)]
            for points in zip(*(run["val_curve"] for run in runs), strict=True)
        ],
        "norms": [
            _mean_norms(points) for points in zip(*(run["norms"] for run in runs), strict=True)
        ],
    }


def _mean_norms(points: Rows) -> dict[str, Any]:
    """Means over seeds of the medians over tokens, for the first layer's two writes."""

    def mean(value: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.fmean(value(point) for point in points)

    return {
        "tokens": points[0]["tokens"],
        "embed": mean(lambda p: p["embed"]),
        "ngram": mean(lambda p: p["parts"].get("ngram", 0.0)),
        "word": mean(lambda p: p["parts"].get("word", p["embed"])),
        "first_attention_ratio": mean(lambda p: p["sublayers"][0]["ratio"]),
        "first_mlp_ratio": mean(lambda p: p["sublayers"][1]["ratio"]),
        "share_after_first_layer": mean(lambda p: p["shares"][0]),
        "closure": max(p["closure"] for p in points),
    }


def _comparison_row(item: Comparison) -> dict[str, Any]:
    row = asdict(item)
    return {"arm": row.pop("candidate"), **row}


def _scale(found: Found) -> str:
    counts = {len(arm["seeds"]) for arm in found.arms}
    ratios = [arm["tokens_per_parameter"] for arm in found.arms]
    tokens = format_count(found.arms[0]["tokens"])
    missing = ""
    if found.left_out:
        missing = f" Not trained yet: {', '.join(found.left_out)}."
    return (
        f"{_range(counts, 'd')} seeds x {tokens} tokens of {CORPUS}: {_range(ratios, '.2g')} "
        f"tokens per parameter, the paper's runs about {PAPER_TOKENS_PER_PARAMETER}.{missing}"
    )


def _range(values: Collection[float], spec: str) -> str:
    low, high = format(min(values), spec), format(max(values), spec)
    return low if low == high else f"{low} to {high}"
