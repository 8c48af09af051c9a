"""From the measured layer 0 to a sentence: is the embedding drowned, and what would mend it.

**Prediction.** Multiply the embedding e of every token by s and keep w, what layer 0 writes, as
measured. The embedding's share of the stream after layer 0 (the paper's layer 1) becomes

    share(s) = <s e + w, s e> / |s e + w|^2 = (s^2 <e,e> + s <e,w>) / (s^2 <e,e> + 2s <e,w> + <w,w>)

of which the median over tokens is given. sqrt(D) is s = sqrt(D); LayerNorm with unit gain puts
LN(e) in the place of s e.

**The scalar.** Whatever the angle between them, share(s) = 1/2 where s |e| = |w|. So s is the
median over tokens of |w| / |e|, at least 1: then the embedding is as long as all that layer 0
writes. Where only the first attention writes much, that is the s which makes the paper's ratio 1.

Keeping w is exact for the first attention, which reads an RMSNorm of s e and so does not see s (but
for the norm's eps). It is rough for the first MLP, which reads a norm of s e + attn_out.

**Check.** The model is run again with its embedding amplified (``amplify.py``) and the share
measured. The weights were trained without it, so the loss then is an upper bound of the
disturbance and no forecast; a run from scratch would adapt.

**Rule.** The embedding counts as drowned where share(1) is below ``DROWNED_BELOW``. Where the write
is orthogonal to the embedding and r times as long, share(1) = 1 / (1 + r^2): 50% at r = 1, 10% at
r = 3, 1% at the r = 10 of the paper. 10% is our choice of a line between no problem and the
published one; the paper gives none. Advised is the first of sqrt(D), LayerNorm and the scalar whose
share (checked, or else predicted) is over the line, or the one of the largest where none is: the
order is that of the published evidence.

**Evidence.** arXiv:2601.21204 sec. 3.2.4 and Fig. 5: 300B-token runs from scratch of n-gram models
with 280M to 1.3B active parameters; the first attention's output was about 10 times its identity
branch, and sqrt(D) or LayerNorm lowered training and validation loss by 0.02. We know of no
published result for an embedding that is drowned by the first MLP alone, for models without n-gram
tables, or for other factors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ngscale.probe.norms import FirstLayer, PerToken, StreamNorms
from ngscale.probe.structure import Kind
from ngscale.spec import Amplification

DROWNED_BELOW = 0.1
"""Share of the embedding after layer 0 under which amplification is advised."""
EVIDENCE_RATIO = 10.0
"""First attention over its identity branch in the paper's un-amplified run."""
EVIDENCE = (
    "arXiv:2601.21204: about -0.02 training and validation loss from sqrt(D) or LayerNorm, in "
    "300B-token runs from scratch of n-gram models with 280M to 1.3B active parameters whose first "
    "attention output was about 10 times its identity branch"
)
NOT_COVERED = (
    "an embedding drowned by the first MLP alone, models without n-gram tables, other sizes and "
    "lengths of training, a factor other than sqrt(D), and amplifying a model that is trained"
)
AMPLIFICATIONS: tuple[Amplification, ...] = ("none", "scalar", "sqrt_d", "layernorm")
_IN_ORDER_OF_EVIDENCE: tuple[Amplification, ...] = ("sqrt_d", "layernorm", "scalar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One amplification put on the embedding of the model as it is."""

    share: float
    """Median over tokens of the embedding's share after layer 0."""
    losses: tuple[float, ...]
    """Of every window, nats/token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do about the embedding in the next training run, and how well founded that is."""

    choice: Amplification
    drowned: bool
    where: str
    """The sub-layer of the first layer that writes most."""
    where_kind: Kind
    times: float
    """Median over tokens of |w| / |e|: what the first layer writes against the embedding."""
    factors: Mapping[Amplification, float | None]
    """What the embedding is multiplied by; None of LayerNorm."""
    predicted_share: Mapping[Amplification, float]
    """Median over tokens of the embedding's share after layer 0."""
    checked: Mapping[Amplification, Checked]
    """Empty where the model was not run again."""
    evidence_applies: bool
    """Whether the first attention is within a factor of 2 of the paper's 10."""
    already: Amplification
    """What the checkpoint itself applies, as far as is known; all shares are after it."""

    def share(self, amplification: Amplification) -> float:
        """As checked, or else as predicted."""
        checked = self.checked.get(amplification)
        return self.predicted_share[amplification] if checked is None else checked.share


def predicted_share(layer: FirstLayer, scale: float) -> PerToken:
    """``share(s)`` of the module docstring, token by token."""
    kept = scale * scale * layer.embed_sq + scale * layer.cross
    share: PerToken = kept / (kept + scale * layer.cross + layer.write_sq)
    return share


def layer_normed(layer: FirstLayer) -> FirstLayer:
    """The same writes on LN(e)."""
    return replace(layer, embed_sq=layer.normed_sq, cross=layer.normed_cross)


def times_the_embedding(layer: FirstLayer) -> float:
    """Median of |w| / |e|."""
    return float(np.median(np.sqrt(layer.write_sq / layer.embed_sq)[:, 1:]))


def factors(layer: FirstLayer, hidden_size: int) -> dict[Amplification, float | None]:
    """What each amplification multiplies the embedding by; None of LayerNorm."""
    return {
        "none": 1.0,
        "scalar": max(1.0, times_the_embedding(layer)),
        "sqrt_d": hidden_size**0.5,
        "layernorm": None,
    }


def advise(
    norms: StreamNorms,
    *,
    hidden_size: int,
    already: Amplification,
    checked: Mapping[Amplification, Checked],
) -> Advice:
    """Apply the rule above.

    A checkpoint that is amplified already is advised nothing more.
    """
    layer = norms.first_layer
    found = factors(layer, hidden_size)
    shares = {
        name: predicted_share(layer_normed(layer), 1.0)
        if factor is None
        else predicted_share(layer, factor)
        for name, factor in found.items()
    }
    predicted = {name: float(np.median(share[:, 1:])) for name, share in shares.items()}
    drowned = predicted["none"] < DROWNED_BELOW
    attention = next(s for s in norms.sublayers if s.kind == "attention")
    first = attention.name.split("_")[0]
    most = max(
        (s for s in norms.sublayers if s.name.split("_")[0] in (first, "pos")),
        key=lambda s: float(np.median(s.write[:, 1:])),
    )
    ratio = float(np.median((attention.write / attention.stream)[:, 1:]))
    advice = Advice(
        choice="none",
        drowned=drowned,
        where=most.name,
        where_kind=most.kind,
        times=times_the_embedding(layer),
        factors=found,
        predicted_share=predicted,
        checked=checked,
        evidence_applies=EVIDENCE_RATIO / 2 <= ratio <= EVIDENCE_RATIO * 2,
        already=already,
    )
    return replace(advice, choice=_choose(advice)) if drowned and already == "none" else advice


def _choose(advice: Advice) -> Amplification:
    over = [name for name in _IN_ORDER_OF_EVIDENCE if advice.share(name) >= DROWNED_BELOW]
    return over[0] if over else max(_IN_ORDER_OF_EVIDENCE, key=advice.share)
