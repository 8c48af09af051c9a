"""From the measured layer 0 to a sentence: is the embedding drowned, and what would mend it.

**Prediction.** Multiply the embedding e of every token by s and keep w, what layer 0 writes, as
measured. The embedding's share of the stream after layer 0 becomes

    share(s) = <s e + w, s e> / |s e + w|^2 = (s^2 <e,e> + s <e,w>) / (s^2 <e,e> + 2s <e,w> + <w,w>)

of which the median over tokens is given. sqrt(D) is s = sqrt(D); LayerNorm with unit gain gives
every token the norm sqrt(D), so s = sqrt(D) / |e| token by token (its mean subtraction neglected).

Keeping w is exact for the first attention, which reads an RMSNorm of s e and so does not see s (but
for the norm's eps). It is rough for the first MLP, which reads a norm of s e + attn_out: run again
with its embedding times sqrt(D), SmolLM2-135M kept 50% where 77% is predicted, with LayerNorm 11%
where 26% is; its first MLP wrote 1.7 and 1.6 times as much. A run from scratch would adapt.

**Rule.** The embedding counts as drowned where share(1) is below ``DROWNED_BELOW``. Where the write
is orthogonal to the embedding and r times as long, share(1) = 1 / (1 + r^2): 50% at r = 1, 10% at
r = 3, 1% at the r = 10 of the paper. 10% is our choice of a line between no problem and the
published one; the paper gives none. Advised is the first of sqrt(D) and LayerNorm that is predicted
to lift the share over the line, or the better of the two where neither does.

**Evidence.** arXiv:2601.21204 sec. 3.2.4 and Fig. 5: 300B-token runs from scratch at 280M to 1.3B
active parameters; the first attention's output was about 10 times its identity branch, and sqrt(D)
or LayerNorm lowered training and validation loss by 0.02. We know of no published result for an
embedding that is drowned by the first MLP alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ngscale.probe.norms import FirstLayer, PerToken
from ngscale.spec import Amplification

DROWNED_BELOW = 0.1
"""Share of the embedding after layer 0 under which amplification is advised."""
EVIDENCE_RATIO = 10.0
"""First attention over its identity branch in the paper's un-amplified run."""
EVIDENCE = (
    "arXiv:2601.21204: about -0.02 training and validation loss from sqrt(D) or LayerNorm, in "
    "300B-token runs from scratch at 280M to 1.3B active parameters whose first attention output "
    "was about 10 times its identity branch"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do about the embedding in the next training run, and how well founded that is."""

    choice: Amplification
    drowned: bool
    predicted_share: Mapping[Amplification, float]
    """Median over tokens of the embedding's share after layer 0."""
    evidence_applies: bool
    """Whether the first attention is within a factor of 2 of the paper's 10."""
    already: Amplification
    """What the checkpoint itself applies, as far as its config says; all shares are after it."""


def predicted_share(layer: FirstLayer, scale: float | PerToken) -> PerToken:
    """``share(s)`` of the module docstring, token by token."""
    kept = scale * scale * layer.embed_sq + scale * layer.cross
    share: PerToken = kept / (kept + scale * layer.cross + layer.write_sq)
    return share


def advise(
    layer: FirstLayer, *, attention_ratio: float, hidden_size: int, already: Amplification
) -> Advice:
    """Apply the rule above; ``attention_ratio`` is the median of the first attention's ratio.

    A checkpoint that is amplified already is advised nothing more.
    """
    root = hidden_size**0.5
    scales: dict[Amplification, float | PerToken] = {
        "none": 1.0,
        "sqrt_d": root,
        "layernorm": root / np.sqrt(layer.embed_sq),
    }
    shares = {
        name: float(np.median(predicted_share(layer, scale)[:, 1:]))
        for name, scale in scales.items()
    }
    drowned = shares["none"] < DROWNED_BELOW
    return Advice(
        choice=_choose(shares) if drowned and already == "none" else "none",
        drowned=drowned,
        predicted_share=shares,
        evidence_applies=EVIDENCE_RATIO / 2 <= attention_ratio <= EVIDENCE_RATIO * 2,
        already=already,
    )


def _choose(shares: Mapping[Amplification, float]) -> Amplification:
    candidates: tuple[Amplification, ...] = ("sqrt_d", "layernorm")
    over = [name for name in candidates if shares[name] >= DROWNED_BELOW]
    return over[0] if over else max(candidates, key=lambda name: shares[name])
