"""Early rejection measured: scores, thresholds from one half of the text, their worth on the other.

The threshold of a score is the highest that loses no more than a target share of accepted tokens on
the calibration prompts, as if the drafts stayed the same; on other prompts it is then really used.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from ngscale.decode.drafters import TableDraft
from ngscale.decode.measure import Setting, compare_tokens, generated, measured
from ngscale.decode.rejection import ANY_SAMPLING, SCORES, Recorder, Threshold
from ngscale.decode.subject import Subject
from ngscale.decode.table_head import TableHead

TARGET_LOSS = 0.05
"""Accepted tokens that calibration may lose."""
_RESAMPLES = 500
_CURVE_POINTS = 41


class Drafts(NamedTuple):
    """R drafts of k tokens each, all verified."""

    scores: dict[str, Float[np.ndarray, "R k"]]
    accepted: Int64[np.ndarray, " R"]
    sequence: Int64[np.ndarray, " R"]
    """Whose draft it is."""


def record_drafts(
    subject: Subject,
    head: TableHead,
    prompts: Int64[np.ndarray, "n P"],
    draft_length: int,
    setting: Setting,
) -> Drafts:
    """Every draft of a run without rejection."""
    recorder = Recorder(seed=setting.seed)
    batches = generated(subject, prompts, TableDraft(head, recorder), draft_length, setting)
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    accepted, sequence, first, taken = [], [], 0, 0
    for batch in batches:
        steps, size = batch.drafted.shape
        alive = batch.drafted >= 0
        for name in SCORES:
            parts = recorder.scores[taken : taken + steps * draft_length]
            of_name = np.stack([one[name].numpy() for one in parts])
            of_name = of_name.reshape(steps, draft_length, size).transpose(0, 2, 1)
            scores[name].append(of_name[alive])
        accepted.append(batch.accepted[alive])
        sequence.append(np.broadcast_to(first + np.arange(size), alive.shape)[alive])
        first, taken = first + size, taken + steps * draft_length
    return Drafts(
        {name: np.concatenate(parts).astype(np.float64) for name, parts in scores.items()},
        np.concatenate(accepted),
        np.concatenate(sequence),
    )


def cut(drafts: Drafts, name: str, threshold: float) -> tuple[float, float]:
    """Shares of drafted tokens left out and of accepted ones lost, were drafts the same."""
    kept = (drafts.scores[name] >= threshold).cumprod(axis=1).sum(1)
    left = np.minimum(drafts.accepted, kept)
    total = max(int(drafts.accepted.sum()), 1)
    return 1 - float(kept.sum()) / drafts.scores[name].size, 1 - float(left.sum()) / total


def calibrate(drafts: Drafts, name: str, target: float = TARGET_LOSS) -> float:
    """The highest threshold that loses no more than ``target``; keeps all where none does."""
    candidates = np.unique(drafts.scores[name])
    low, high = 0, len(candidates)  # loss grows with the threshold
    while high - low > 1:
        middle = (low + high) // 2
        if cut(drafts, name, candidates[middle])[1] <= target:
            low = middle
        else:
            high = middle
    return float(candidates[low])


def auc(scores: Float[np.ndarray, " n"], stands: Bool[np.ndarray, " n"]) -> float | None:
    """Of telling tokens that stand from those that fall: the chance that one scores higher.

    Ties count half (Mann-Whitney).
    """
    above, below = int(stands.sum()), int((~stands).sum())
    if not above or not below:
        return None
    values, places = np.unique(scores, return_inverse=True)
    of_falling = np.bincount(places[~stands], minlength=len(values))
    lower = np.cumsum(of_falling) - of_falling / 2
    return float(lower[places[stands]].sum() / (above * below))


def reached(drafts: Drafts) -> Bool[np.ndarray, "R k"]:
    """Tokens all before which stood: of others nothing is known."""
    return _places(drafts) <= drafts.accepted[:, None]


def _stands(drafts: Drafts) -> Bool[np.ndarray, "R k"]:
    return _places(drafts) < drafts.accepted[:, None]


def _places(drafts: Drafts) -> Int64[np.ndarray, " k"]:
    return np.arange(next(iter(drafts.scores.values())).shape[1])


def auc_interval(drafts: Drafts, name: str) -> tuple[float | None, float | None, float | None]:
    """And 95%, by drawing sequences again (percentiles)."""
    known = reached(drafts)
    scores, stands = drafts.scores[name][known], _stands(drafts)[known]
    owner = np.broadcast_to(drafts.sequence[:, None], known.shape)[known]
    of_sequence = [np.flatnonzero(owner == one) for one in np.unique(owner)]
    rng, found = np.random.default_rng(0), []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(of_sequence), len(of_sequence))
        chosen = np.concatenate([of_sequence[i] for i in drawn])
        one = auc(scores[chosen], stands[chosen])
        if one is not None:
            found.append(one)
    if not found:
        return auc(scores, stands), None, None
    low, high = np.quantile(found, [0.025, 0.975])
    return auc(scores, stands), float(low), float(high)


def roc(drafts: Drafts, name: str) -> list[list[float]]:
    """(falling tokens that are let through, standing ones that are), at evenly spaced quantiles.

    Empty where all stand or all fall.
    """
    known = reached(drafts)
    stands = _stands(drafts)[known]
    if stands.all() or not stands.any():
        return []
    scores = drafts.scores[name][known]
    points = []
    for level in np.linspace(0, 1, _CURVE_POINTS):
        let = scores >= np.quantile(scores, level)
        points.append([float(let[~stands].mean()), float(let[stands].mean())])
    return [[1.0, 1.0], *points, [0.0, 0.0]]


def evaluate(
    subject: Subject,
    head: TableHead,
    prompts: Int64[np.ndarray, "n P"],
    calibration: Int64[np.ndarray, "n P"],
    draft_length: int,
    setting: Setting,
) -> dict[str, Any]:
    """Every rejector on one text, at the threshold of other prompts of it."""
    before = record_drafts(subject, head, calibration, draft_length, setting)
    drafts = record_drafts(subject, head, prompts, draft_length, setting)
    plain = measured(
        generated(subject, prompts, TableDraft(head), draft_length, setting),
        draft_length=draft_length,
    )
    rows = []
    for name in SCORES if setting.sampling.is_greedy else ANY_SAMPLING:
        threshold = calibrate(before, name)
        area, low, high = auc_interval(drafts, name)
        saved, lost = cut(drafts, name, threshold)
        drafter = TableDraft(head, Threshold(name, threshold, seed=setting.seed))
        used = measured(
            generated(subject, prompts, drafter, draft_length, setting),
            draft_length=draft_length,
        )
        rows.append(
            {
                "score": name,
                "threshold": threshold,
                "auc": area,
                "auc_low": low,
                "auc_high": high,
                "saved_frac": saved,
                "lost_frac": lost,
                "drafted_per_verification": used["num_drafted"] / used["num_verifications"],
                "acceptance_length": used["acceptance_length"],
                "tokens_per_verification": used["tokens_per_verification"],
                "ms_per_token": used["ms_per_token"],
                "plain_ms_per_token": plain["ms_per_token"],
                "processor_ms_per_token": used["processor_ms_per_token"],
                "plain_processor_ms_per_token": plain["processor_ms_per_token"],
                "plain_acceptance_length": plain["acceptance_length"],
                "sequences_equal": compare_tokens(used["tokens"], plain["tokens"]),
                "num_sequences": used["num_sequences"],
                "roc": roc(drafts, name),
            }
        )
    return {"draft_length": draft_length, "num_drafts": len(drafts.accepted), "rejectors": rows}
