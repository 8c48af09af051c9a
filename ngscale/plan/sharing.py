"""What the sizes stage says of the sizes in use and of those to use, order by order."""

from collections.abc import Mapping
from typing import Any

from ngscale.records import RunRecord


def sharing(sizes: RunRecord | None, patch: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Impurity, the mean over an order's tables; nothing where no text was counted, or nothing is
    changed.
    """
    if sizes is None or patch is None or "corpus" not in sizes.inputs:
        return []
    proposals = sizes.results["proposals"]
    chosen = next((one for one in proposals if one["patch"] == patch), None)
    if chosen is None:
        return []
    return [
        {
            "order": now["order"],
            "in_use": now["impurity"],
            "recommended": then["impurity"],
        }
        for now, then in zip(sizes.results["current"]["orders"], chosen["orders"], strict=True)
    ]


def caveats(sizes: RunRecord | None, hash_base: int | None) -> list[str]:
    """What the measurement of the sizes rests on, where that is not the model's own."""
    if sizes is None:
        return []
    corpus, tokenizer = sizes.inputs.get("corpus"), sizes.inputs.get("tokenizer")
    if corpus is None:
        return ["How often n-grams share rows on any text: no corpus was read."]
    found = []
    if tokenizer is not None and tokenizer["vocab_size"] != hash_base:
        found.append(
            f"How the sizes fare with the model's own tokenizer: the text was encoded by "
            f"{tokenizer['name']} with {tokenizer['vocab_size']:,} ids, the tables hash in base "
            f"{hash_base:,}. Give --tokenizer."
        )
    if corpus["num_tokens"] < _FEW_TOKENS:
        found.append(
            f"How they fare on more text than {corpus['num_tokens']:,} tokens: sharing grows with "
            "the number of distinct n-grams. Give --corpus."
        )
    return found


_FEW_TOKENS = 10_000_000
