"""Engram's compressed ids: tokens of equal normal form share one (deepseek-ai/Engram).

Source of the rule: ``engram_demo_v1.py``. Ids are numbered as their normal forms first come, in
order of token id: NFKC, NFD, accents stripped, lower case, runs of blanks as one space, blanks at
both ends stripped except where nothing else is there. A token that is no text by itself (U+FFFD)
counts as its raw piece.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt32

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONE_SPACE = "\ue000"
"""A private character that stands for a token of blanks alone while the ends are stripped."""


def compressed_ids(tokenizer: "Tokenizer") -> UInt32[np.ndarray, " V"]:
    """The compressed id of every token id below the tokenizer's size, added tokens included.

    DeepSeek-V4.1's 129,280 tokens give its published 99,092 compressed ids.
    """
    from tokenizers import Regex, normalizers

    normal_form = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.NFD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[ \t\r\n]+"), " "),
            normalizers.Replace(Regex(r"^ $"), _LONE_SPACE),
            normalizers.Strip(),
            normalizers.Replace(_LONE_SPACE, " "),
        ]
    )
    numbers: dict[str | None, int] = {}
    ids = []
    for token in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token], skip_special_tokens=False)
        if "\ufffd" in text:
            form = tokenizer.id_to_token(token)
        else:
            form = normal_form.normalize_str(text) or text
        ids.append(numbers.setdefault(form, len(numbers)))
    return np.array(ids, dtype=np.uint32)
