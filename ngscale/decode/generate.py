"""The generation loop: draft, verify all drafts in one pass, keep what stands."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ngscale.decode.drafters import Drafter
from ngscale.decode.sampling import Dice, Draft, Sampling, verify_greedy, verify_sampling
from ngscale.decode.sequences import Sequences
from ngscale.model.decoder import Decoder

GREEDY = Sampling()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """The tokens, and what they took; a step verifies one draft of each sequence."""

    tokens: Int64[np.ndarray, "B n"]
    """Behind the prompts."""
    drafted: Int64[np.ndarray, "S B"]
    """Drafted tokens that were verified; -1 where the sequence had all its tokens before."""
    accepted: Int64[np.ndarray, "S B"]
    num_embedded: int
    """Tokens that n-gram rows were read of, prompts apart."""
    num_reused: int
    """Of those verified, the ones the N-gram Cache had."""
    prefill_s: float
    decode_s: float
    processor_s: float
    """Of ``decode_s``, what this process had the processor for, all threads together."""


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompts: Int64[Tensor, "B P"],
    *,
    new_tokens: int,
    drafter: Drafter | None = None,
    draft_length: int = 0,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    first: int = 0,
    cached: bool = True,
) -> Generated:
    """``new_tokens`` behind every prompt, of two tokens at least.

    Drafts change how many passes it takes, and neither greedy tokens nor the distribution of
    sampled ones. The random numbers of a sequence follow from ``seed`` and its number, which
    counts from ``first`` on. The device is waited for twice a step, for the longest draft and for
    what stood.
    """
    batch, length = prompts.shape
    assert length >= 2
    k = draft_length if drafter is not None else 0
    sequences = Sequences(decoder, prompts, capacity=length + new_tokens + 2 * k + 2, cached=cached)
    state, cache = sequences.state, sequences.cache
    dice = None if sampling.is_greedy else Dice(seed, batch, first)
    start = time.perf_counter()
    decoder.hidden(prompts[:, :-1], state)
    if drafter is not None:
        drafter.start(sequences)
    _wait(prompts.device)
    prefilled, processor = time.perf_counter(), time.process_time()
    goal = length + new_tokens
    num_known = [length] * batch
    drafted, accepted = [], []
    while min(num_known) < goal:
        uniforms = None if dice is None else dice.roll(2 * k + 1, prompts.device)
        draft = _drafted(sequences, drafter, k, sampling, uniforms)
        unfinished = sequences.num_known < goal
        counts = torch.where(unfinished, draft.counts, 0)
        most = int(counts.max()) if k else 0
        draft = Draft(
            draft.tokens[:, :most],
            counts,
            None if draft.probabilities is None else draft.probabilities[:, :most],
        )
        tokens = torch.cat([sequences.last.unsqueeze(1), draft.tokens], dim=1)
        hidden = decoder.hidden(tokens, state, embedded=cache.verified(tokens))
        logits = decoder.lm_head(hidden)  # (B, 1 + most, V0)
        if uniforms is None:
            verdict = verify_greedy(logits, draft)
        else:
            places = [*range(k, k + most), 2 * k]
            verdict = verify_sampling(sampling.probabilities(logits), draft, uniforms[:, places])
        new = torch.cat([draft.tokens, tokens[:, :1]], dim=1)
        new.scatter_(1, verdict.accepted.unsqueeze(1), verdict.next_token.unsqueeze(1))
        gained = torch.where(unfinished, verdict.accepted + 1, 0)
        told = torch.stack([counts, verdict.accepted, gained]).tolist()
        drafted.append([c if g else -1 for c, g in zip(told[0], told[2], strict=True)])
        accepted.append(told[1])
        before, num_known = num_known, [n + g for n, g in zip(num_known, told[2], strict=True)]
        sequences.extend(new, gained, max(num_known) - max(before))
        state.truncate(sequences.num_known - 1, sequences.most_known - 1)
    _wait(prompts.device)
    return Generated(
        tokens=sequences.known[:, length:goal].cpu().numpy(),
        drafted=np.array(drafted),
        accepted=np.array(accepted),
        num_embedded=cache.num_embedded,
        num_reused=cache.num_reused,
        prefill_s=prefilled - start,
        decode_s=time.perf_counter() - prefilled,
        processor_s=time.process_time() - processor,
    )


def _drafted(
    sequences: Sequences,
    drafter: Drafter | None,
    length: int,
    sampling: Sampling,
    uniforms: Tensor | None,
) -> Draft:
    if drafter is None or length == 0:
        last = sequences.last
        return Draft(last.unsqueeze(1)[:, :0], torch.zeros_like(last), None)
    return drafter.draft(
        sequences, length, sampling, None if uniforms is None else uniforms[:, :length]
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
