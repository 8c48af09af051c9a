"""The answer in one sentence."""

from collections.abc import Mapping
from typing import Any


def sentence(results: Mapping[str, Any]) -> str:
    """The best drafter by tokens per verification, losslessness, and the best early rejection."""
    rows = [row for row in results["drafts"] if row["draft"] != "none"]
    base = [row for row in results["drafts"] if row["draft"] == "none"]
    if not rows:
        return f"{base[0]['ms_per_token']:.2f} ms per token without drafts."
    best = max(rows, key=lambda row: row["tokens_per_verification"])
    plain = next(row for row in base if row["text"] == best["text"])
    parts = [
        f"{best['draft'].capitalize()} drafts of length {best['draft_length']} on {best['text']} "
        f"give {best['tokens_per_verification']:.2f} tokens per verification "
        f"({best['low']:.2f} to {best['high']:.2f}), {best['ms_per_token']:.2f} ms per token "
        f"against {plain['ms_per_token']:.2f} without"
    ]
    exact = results["exact"]
    if exact is not None:
        is_same = all(exact["equal"].values())
        parts.append(
            "greedy output is that of full passes, bit for bit"
            if is_same
            else "greedy output is NOT that of full passes"
        )
    scores = [
        (row["auc"], row, text["text"])
        for text in results["rejection"]
        for row in text["rejectors"]
        if row["auc"] is not None and row["score"] not in ("random", "entropy")
    ]
    if scores:
        _, row, _ = max(scores, key=lambda item: item[0])
        parts.append(
            f"early rejection by {row['score']} (AUC {row['auc']:.2f}) leaves out "
            f"{100 * row['saved_frac']:.0f}% of drafted tokens and loses "
            f"{100 * row['lost_frac']:.1f}% of accepted ones"
        )
    return "; ".join(parts) + "."
