"""E2, collisions and loss: table sizes on and off resonance, at equal parameters within 0.1%.

Resonance is in the ratio of size and base. A size far from every p/q of V0, or on a half of it, has
a quarter of a percent more or fewer rows than 6 x V0; so the base of the hash is moved instead (any
base of at least V0 tells ids apart), and arms that differ in resonance alone have the same rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ngscale.primes import next_prime
from ngscale.records import Column, Figure, Panel, Series, Table
from ngscale.spec import NgramSpec, PolynomialHash
from ngscale.train_small.arms import random_bases
from reports.experiments import sharing
from reports.experiments.outcome import Experiment, Found
from reports.experiments.report import difference_figure
from reports.experiments.scale import ROWS, Arm, clean_base, clean_tables, design_of, tables

OFFSETS = (0, 1, 3, 9)
HALF_BASE = 4_468
"""11/2 of it are 24,574 rows, and no smaller p/q of it is near."""
THIRD_BASE = 4_338
"""17/3 of it are 24,582 rows."""
_NUM_RESAMPLES = 2000


def arms() -> list[Arm]:
    """One table of bigrams in fine steps; then the coarse ones of N = 4 and of K = 4."""
    return [*_bigram_arms(), *_arms_of(4, 1), *_arms_of(4, 4), *_arms_of(2, 4)]


def _bigram_arms() -> list[Arm]:
    beside, prime = ROWS + 1, next_prime(ROWS)
    specs = {_offset_name(offset): tables(2, 1, ROWS + offset) for offset in OFFSETS}
    specs |= {
        "prime beside 6 V0": tables(2, 1, prime),
        "11/2 base": tables(2, 1, HALF_BASE * 11 // 2, base=HALF_BASE),
        "17/3 base": tables(2, 1, THIRD_BASE * 17 // 3, base=THIRD_BASE),
        "clean": clean_tables(2, 1),
        "clean prime": tables(2, 1, prime, base=clean_base(2, 1, [prime])),
        "random base": random_bases(tables(2, 1, beside)),
    }
    return [_arm("N2-K1", name, spec) for name, spec in specs.items()]


def _arms_of(max_order: int, num_subtables: int) -> list[Arm]:
    """All on the multiple; LongCat's rule beside it; its rows, clean or of random bases."""
    count = (max_order - 1) * num_subtables
    beside = [ROWS + 2 * i + 1 for i in range(count)]
    clean = clean_tables(max_order, num_subtables)
    assert isinstance(clean.hash, PolynomialHash)
    specs = {
        "6 V0": tables(max_order, num_subtables, ROWS),
        "6 V0 + 2i + 1": tables(max_order, num_subtables, beside),
        "clean": clean,
        "random base": random_bases(tables(max_order, num_subtables, beside)),
    }
    if num_subtables > 1:
        specs["one clean size"] = tables(max_order, num_subtables, beside[0], base=clean.hash.base)
    return [_arm(f"N{max_order}-K{num_subtables}", name, spec) for name, spec in specs.items()]


def _offset_name(offset: int) -> str:
    return f"6 V0 + {offset}" if offset else "6 V0"


def _arm(shape: str, sizes: str, spec: NgramSpec) -> Arm:
    return Arm(
        name=f"{shape} {sizes}",
        design=design_of(spec),
        facts={"shape": shape, "sizes": sizes},
        family=shape,
    )


def _pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Each against the clean arm of its shape."""
    return [
        (arm.name, f"{arm.facts['shape']} clean") for arm in arms if arm.facts["sizes"] != "clean"
    ]


def _measure(arms: Sequence[Arm], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What rows share in every arm."""
    return {"sharing": [{"arm": arm.name, **sharing.load(arm)} for arm in arms]}


def rank_correlations(found: Found) -> list[dict[str, Any]]:
    """Per metric Spearman's rho of mean losses, over the arms of N2-K1 and over all shapes.

    Over all shapes both are taken less their shape's mean. The interval is of 2,000 resamples of
    arms and seeds (seed 0); None where a metric does not vary.
    """
    num_seeds = min(len(arm["losses"]) for arm in found.arms)
    seeds = np.array([arm["losses"][:num_seeds] for arm in found.arms])  # (arms, seeds)
    shapes = np.array([arm["shape"] for arm in found.arms])
    rows = []
    for metric, meaning in sharing.METRICS.items():
        values = np.array([one[metric] for one in found.more["sharing"]])
        row: dict[str, Any] = {"metric": metric, "meaning": meaning}
        for name, chosen, by in (
            ("fine", shapes == "N2-K1", np.zeros(len(shapes))),
            ("all", np.ones(len(shapes), bool), shapes),
        ):
            rng = np.random.default_rng(0)
            x, y, groups = values[chosen], seeds[chosen], by[chosen]
            draws = [
                _rho(x[i], y[i][:, rng.integers(y.shape[1], size=y.shape[1])], groups[i])
                for i in rng.integers(len(x), size=(_NUM_RESAMPLES, len(x)))
            ]
            known = [draw for draw in draws if draw is not None]
            rho = _rho(x, y, groups)
            low, high = np.quantile(known, [0.025, 0.975]) if rho is not None else (None, None)
            row |= {name: rho, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows


def _rho(x: np.ndarray, losses: np.ndarray, groups: np.ndarray) -> float | None:
    """Of values and mean losses, both less the mean of their group."""
    loss = losses.mean(axis=1)
    apart_x, apart_loss = np.empty(len(x)), np.empty(len(x))
    for group in np.unique(groups):
        own = groups == group
        apart_x[own], apart_loss[own] = x[own] - x[own].mean(), loss[own] - loss[own].mean()
    if np.ptp(apart_x) == 0:
        return None
    return float(spearmanr(apart_x, apart_loss).statistic)


def _answer(found: Found) -> str:
    rows = rank_correlations(found)
    best = max((row for row in rows if row["fine"] is not None), key=lambda row: row["fine"])
    item = found.difference("N2-K1 6 V0", "N2-K1 clean")
    lite = ""
    if "N4-K4" not in found.left_out:
        rule = found.difference("N4-K4 6 V0 + 2i + 1", "N4-K4 clean")
        lite = (
            "; LongCat's rule beside it with N = K = 4 costs "
            f"{rule['mean_difference']:+.4f} ({rule['verdict']})"
        )
    return (
        f"One table of bigrams on 6 x V0 costs {item['mean_difference']:+.4f} nats/token "
        f"({item['verdict']}) against a size far from every multiple{lite}. Of the metrics "
        f"{best['metric'].replace('_', ' ')} orders the losses best (Spearman {best['fine']:.2f}, "
        f"95% {best['fine_low']:.2f} to {best['fine_high']:.2f}, 10 arms)."
    )


def _tables(found: Found) -> tuple[Table, ...]:
    return (
        Table(
            name="correlations",
            title="Which metric orders the losses: Spearman's rho, 95% of resampled arms and seeds",
            columns=(
                Column(key="metric", title="metric"),
                Column(key="meaning", title="what it is"),
                *(
                    Column(key=f"{name}{end}", title=title, spec=".2f")
                    for name, what in (("fine", "N2-K1"), ("all", "all shapes"))
                    for end, title in (("", what), ("_low", "from"), ("_high", "to"))
                ),
            ),
            rows=rank_correlations(found),
        ),
        Table(
            name="sharing",
            title="Sharing on the trained tokens",
            columns=(
                Column(key="arm", title="arm"),
                *(
                    Column(key=key, title=key.replace("_", " "), spec=".4g")
                    for key in sharing.METRICS
                ),
            ),
            rows=found.more["sharing"],
        ),
    )


def _figures(found: Found) -> tuple[Figure, ...]:
    loss = {arm["arm"]: arm for arm in found.arms}
    panels = []
    for metric in ("impurity", "sharing"):
        series = []
        for shape in dict.fromkeys(arm["shape"] for arm in found.arms):
            own = [one for one in found.more["sharing"] if loss[one["arm"]]["shape"] == shape]
            clean = loss[f"{shape} clean"]["mean_loss"]
            series.append(
                Series(
                    label=shape,
                    x=[one[metric] for one in own],
                    y=[loss[one["arm"]]["mean_loss"] - clean for one in own],
                    style="points",
                )
            )
        panels.append(
            Panel(
                title=sharing.METRICS[metric],
                x_label=metric,
                y_label="held-out loss less the clean arm's",
                series=tuple(series),
            )
        )
    return (
        difference_figure(found, "differences", "Every arm against the clean one of its shape"),
        Figure(name="metrics", caption="Loss against what rows share", panels=tuple(panels)),
    )


EXPERIMENT = Experiment(
    slug="2026-11-22-e2-collisions-and-loss",
    title="E2: collisions and loss",
    published=(
        "arXiv:2501.16975, Table 4, the only published loss of an integer multiple (OLMoE-1.3B, "
        "50B tokens, V = 50,280): tables of m = 64 V lose 0.024 of a gain of 0.036 in training "
        "loss. arXiv:2601.21204 counts collisions (Fig. 3b) and advises sizes far from integer "
        "multiples, but shows no loss for it."
    ),
    arms=arms,
    pairs=_pairs,
    columns={"shape": "shape", "sizes": "sizes"},
    answer=_answer,
    figures=_figures,
    measure=_measure,
    tables=_tables,
)
