"""Which keys of config.json set the rows of tables, as JSON Merge Patches (RFC 7396)."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.ngram_config import EXTENSION_KEY

_RATIO_KEYS = ("ngram_vocab_size_ratio", "oe_vocab_size_ratio")
_LIST_KEY = "oe_vocab_sizes"


def ratio_key(config: Mapping[str, Any]) -> str | None:
    """The key whose ratio gives the rows, or would in a config.json that has no tables yet; None
    where the rows are listed, which goes before a ratio.
    """
    if _LIST_KEY in config or "table_rows" in config.get(EXTENSION_KEY, {}):
        return None
    return next((key for key in _RATIO_KEYS if key in config), _RATIO_KEYS[0])


def rows_patch(config: Mapping[str, Any], table_rows: Sequence[int]) -> dict[str, Any]:
    """That lists the rows, where this config.json lists them; a block is patched whole."""
    if _LIST_KEY in config:
        return {_LIST_KEY: list(table_rows)}
    return {EXTENSION_KEY: {**config.get(EXTENSION_KEY, {}), "table_rows": list(table_rows)}}
