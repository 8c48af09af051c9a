"""The sentence that ``probe`` ends in: drowned or not, where, by how much, and what mends it."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.spec import Amplification

LABELS: dict[Amplification, str] = {
    "none": "none",
    "scalar": "scalar s",
    "sqrt_d": "sqrt(D)",
    "layernorm": "LayerNorm",
}
KINDS = {
    "position": "positions",
    "ngram": "n-grams",
    "attention": "attention",
    "mlp": "MLP",
    "moe": "experts",
}
"""Kinds of writes, for people."""


def answer(
    layers: Sequence[Mapping[str, Any]],
    shares: Sequence[Mapping[str, Any]],
    advice: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    tokens: int,
) -> str:
    """What was measured and what follows from it."""
    attention, mlp = (
        times(next(layer for layer in layers if layer["kind"] == kind)["ratio"]["median"])
        for kind in ("attention", "mlp")
    )
    measured = (
        f"{inputs['model']['name']}: the first attention writes {attention} and the first MLP "
        f"{mlp} the stream it is added to (median over {tokens:,} tokens); after layer "
        f"{shares[0]['after'][1:]} the embedding is "
        f"{percent(entry(advice, 'none')['predicted_share'])} of the stream"
    )
    return f"{measured}. {_advice_sentence(advice)}"


def entry(advice: Mapping[str, Any], name: Amplification) -> Mapping[str, Any]:
    """What is known of one amplification."""
    found: Mapping[str, Any] = next(
        one for one in advice["amplifications"] if one["amplification"] == name
    )
    return found


def _advice_sentence(advice: Mapping[str, Any]) -> str:
    line = percent(advice["drowned_below"])
    if not advice["drowned"]:
        return f"Advice: no amplification; it is not drowned (line: {line})."
    where = (
        f"It is drowned, most of all by the first {KINDS[advice['where_kind']]}: layer 0 writes "
        f"{times(advice['times'])} the embedding."
    )
    if advice["choice"] == "none":
        return (
            f"{where} Advice: nothing further; it is below the line of {line}, but amplified "
            f"already ({LABELS[advice['already']]})."
        )
    return (
        f"{where} Advice for the next training run: {_means(advice)}, {_left(advice)} (line: "
        f"{line}); {_evidence(advice)}."
    )


def _means(advice: Mapping[str, Any]) -> str:
    factor = entry(advice, advice["choice"])["factor"]
    if factor is None:
        return "put a LayerNorm on the embedding"
    what = "sqrt(D) = " if advice["choice"] == "sqrt_d" else ""
    return f"multiply the embedding by {what}{factor:.3g}"


def _left(advice: Mapping[str, Any]) -> str:
    found = entry(advice, advice["choice"])
    told = f"predicted to leave {percent(found['predicted_share'])} if layer 0 writes as before"
    if "checked_share" not in found:
        return told
    return (
        f"{told}, {percent(found['checked_share'])} when this model is run so (its loss then "
        f"changes by {found['loss_change_nats']:+.2g} nats/token over "
        f"{advice['num_loss_tokens']:,} tokens, an upper bound of the disturbance: its weights "
        "were trained without)"
    )


def _evidence(advice: Mapping[str, Any]) -> str:
    case = "this case" if advice["evidence_applies"] else "a first attention near 10x"
    near = ": a first attention near 10x" if advice["evidence_applies"] else ", which this is not"
    return (
        f"the published -0.02 loss (300B-token runs of n-gram models, 280M to 1.3B active) is for "
        f"{case}{near}"
    )


def times(ratio: float) -> str:
    """A ratio as ``1.00x``."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.1f}x"


def percent(share: float) -> str:
    """Two digits of it."""
    return f"{100 * share:.2g}%"
