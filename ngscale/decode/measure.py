"""One drafter at one draft length on one text: what stood, what it saved, what it took."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ngscale import strict_json
from ngscale.decode.drafters import Drafter
from ngscale.decode.generate import Generated, generate
from ngscale.decode.sampling import Sampling
from ngscale.decode.subject import Subject, on_device
from ngscale.errors import InputError
from ngscale.model.row_invariant import row_invariant
from ngscale.records import digest, dump_json, write_atomic

_RESAMPLES = 1000
EXACT_SEQUENCES = 2
"""Decoded once more in the row-invariant mode, with and without drafts."""
EXACT_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How all of a run is generated."""

    new_tokens: int
    batch: int
    sampling: Sampling
    seed: int


class Store:
    """Finished items under ``<out>/items``, each under a digest of what it is a function of."""

    def __init__(self, out: Path | None, shared: Mapping[str, Any]) -> None:
        self.directory, self.shared = None if out is None else out / "items", shared

    def item(self, inputs: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The kept item, or what ``make`` gives, kept.

        Raises:
            InputError: the kept one cannot be read.
        """
        if self.directory is None:
            return make()
        path = self.directory / f"{digest({**self.shared, **inputs})}.json"
        if path.is_file():
            try:
                found: dict[str, Any] = strict_json.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: cannot be read; remove it: {error}") from error
            return found
        made = make()
        write_atomic(path, dump_json(made).encode())
        return made


def generated(
    subject: Subject,
    prompts: Int64[np.ndarray, "n P"],
    drafter: Drafter | None,
    draft_length: int,
    setting: Setting,
    *,
    cached: bool = True,
) -> list[Generated]:
    """Batch by batch."""
    return [
        generate(
            subject.decoder,
            on_device(prompts[first : first + setting.batch], subject.device),
            new_tokens=setting.new_tokens,
            drafter=drafter,
            draft_length=draft_length,
            sampling=setting.sampling,
            seed=setting.seed,
            first=first,
            cached=cached,
        )
        for first in range(0, len(prompts), setting.batch)
    ]


def measured(batches: list[Generated], *, draft_length: int) -> dict[str, Any]:
    """Of all sequences together; the interval is over sequences."""
    steps = np.concatenate([(b.drafted >= 0).sum(0) for b in batches])  # (sequences,)
    accepted = np.concatenate([(b.accepted * (b.drafted >= 0)).sum(0) for b in batches])
    drafted = np.concatenate([b.drafted.clip(0).sum(0) for b in batches])
    num_tokens = sum(b.tokens.size for b in batches)
    low, high = ratio_interval(accepted + steps, steps)
    return {
        "num_sequences": len(steps),
        "num_tokens": num_tokens,
        "num_verifications": int(steps.sum()),
        "num_drafted": int(drafted.sum()),
        "num_accepted": int(accepted.sum()),
        "acceptance_length": float(accepted.sum() / steps.sum()),
        "acceptance_rate": float(accepted.sum() / drafted.sum()) if drafted.sum() else None,
        "tokens_per_verification": float(1 + accepted.sum() / steps.sum()),
        "low": low,
        "high": high,
        "rate_by_position": _by_position(batches, draft_length),
        "ms_per_token": 1000 * sum(b.decode_s for b in batches) / num_tokens,
        "processor_ms_per_token": 1000 * sum(b.processor_s for b in batches) / num_tokens,
        "prefill_ms": 1000 * sum(b.prefill_s for b in batches),
        "embedded_per_token": sum(b.num_embedded for b in batches) / num_tokens,
        "reused_per_token": sum(b.num_reused for b in batches) / num_tokens,
        "tokens": [row for b in batches for row in b.tokens.tolist()],
    }


def _by_position(batches: list[Generated], draft_length: int) -> list[float | None]:
    """Of those that were verified with all before them accepted, the share that stood."""
    drafted = np.concatenate([b.drafted.ravel() for b in batches])
    accepted = np.concatenate([b.accepted.ravel() for b in batches])
    rates: list[float | None] = []
    for i in range(draft_length):
        reached = (drafted > i) & (accepted >= i)
        rates.append(float((accepted[reached] > i).mean()) if reached.any() else None)
    return rates


def ratio_interval(
    above: Int64[np.ndarray, " n"] | Float[np.ndarray, " n"], below: Int64[np.ndarray, " n"]
) -> tuple[float, float]:
    """95% of the ratio of sums, by drawing sequences again (percentiles)."""
    drawn = np.random.default_rng(0).integers(0, len(above), (_RESAMPLES, len(above)))
    ratios = above[drawn].sum(1) / np.maximum(below[drawn].sum(1), 1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def compare_tokens(one: list[list[int]], other: list[list[int]]) -> int:
    """Sequences that are equal."""
    return sum(a == b for a, b in zip(one, other, strict=True))


@torch.no_grad()
def largest_difference(
    subject: Subject, prompts: Int64[np.ndarray, "n P"], tokens: list[list[int]]
) -> float:
    """Between logits of one pass over prompts and tokens, and of a step for each token."""
    whole = torch.cat(
        [
            on_device(prompts, subject.device),
            torch.tensor(tokens, device=subject.device),
        ],
        dim=1,
    )
    start, length = prompts.shape[1], whole.shape[1]
    at_once = subject.decoder(whole)
    state = subject.decoder.new_state(len(whole), length)
    subject.decoder(whole[:, :start], state=state)
    largest = 0.0
    for t in range(start, length):
        logits = subject.decoder(whole[:, t : t + 1], state=state)
        largest = max(largest, float((logits[:, 0] - at_once[:, t]).abs().max()))
    return largest


def exact_check(
    subject: Subject,
    prompts: Int64[np.ndarray, "n P"],
    drafter: Drafter | None,
    draft_length: int,
) -> bool:
    """Whether greedy tokens are those of a full pass for each, in the row-invariant mode."""
    start = on_device(prompts[:EXACT_SEQUENCES], subject.device)
    with row_invariant():
        made = generate(
            subject.decoder,
            start,
            new_tokens=EXACT_TOKENS,
            drafter=drafter,
            draft_length=draft_length,
        )
        whole: Tensor = torch.cat([start, torch.from_numpy(made.tokens)], dim=1)
        # A greedy continuation is the only one whose every token is the likeliest of one pass.
        likeliest = subject.decoder(whole[:, :-1]).argmax(-1)[:, start.shape[1] - 1 :]
    return torch.equal(likeliest, whole[:, start.shape[1] :])
