"""Engram's compressed ids: which tokens share one."""

import json
import os
from typing import Any

import pytest
from tokenizers import Tokenizer

from ngscale import presets
from ngscale.compressed_ids import compressed_ids


def tokenizer_of(*pieces: str) -> Tokenizer:
    """A tokenizer whose token i is pieces[i], decoded as it stands."""
    model: dict[str, Any] = {
        "type": "WordLevel",
        "vocab": {piece: i for i, piece in enumerate(pieces)},
        "unk_token": pieces[0],
    }
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))


def test_ids_are_numbered_as_normal_forms_first_come() -> None:
    pieces = ["a", "B", " a", "b", "\u00c1", " ", "\t", "c", "\uff43", "\n \n", "\ufffd", "x\ufffd"]
    found = compressed_ids(tokenizer_of(*pieces)).tolist()
    assert found == [0, 1, 0, 1, 0, 2, 2, 3, 3, 2, 4, 5]


@pytest.mark.skipif("NGSCALE_DEEPSEEK" not in os.environ, reason="NGSCALE_DEEPSEEK is not set")
def test_v4_1_has_its_published_number_of_compressed_ids() -> None:
    """engram_compressed_vocab_size 99,092 in DeepSeek-V4.1-Flash's config.json; NGSCALE_DEEPSEEK
    is its tokenizer.json (129,280 ids).
    """
    found = compressed_ids(Tokenizer.from_file(os.environ["NGSCALE_DEEPSEEK"]))
    config = json.loads(presets.resolve("deepseek-v4.1-flash").read_text())
    assert len(found) == 129_280
    assert len(set(found.tolist())) == config["engram_compressed_vocab_size"]
    assert found[config["engram_pad_token_id"]] == config["ngscale"]["fill"]
