"""A design and a corpus of seconds: every stage of a plan runs on them."""

import json
from dataclasses import replace
from pathlib import Path

from ngscale.architectures import with_keys
from ngscale.design import decoder_config
from ngscale.train_small.config import DEFAULT_DESIGN

_KEYS = {"hidden_size": 32, "num_hidden_layers": 2, "head_dim": 8, "moe_intermediate_size": 16}


def write_config(directory: Path) -> str:
    """Tables of 4 x V0 + 1, 3, 5 and 7 rows, which the audit finds unsound."""
    spec = DEFAULT_DESIGN.ngram
    assert spec is not None
    tables = replace(spec, table_rows=(16_385, 16_387, 16_389, 16_391))
    narrow = with_keys(DEFAULT_DESIGN.model, _KEYS)
    path = directory / "narrow" / "config.json"
    path.parent.mkdir()
    design = replace(DEFAULT_DESIGN, model=narrow, ngrams=(tables,))
    path.write_text(json.dumps(decoder_config(design)))
    return str(path)


def write_text(directory: Path) -> str:
    """The beginnings of the two novels, of which 15 blocks are held out."""
    embedded = Path(__file__).parents[2] / "corpora" / "default"
    path = directory / "text.txt"
    texts = [novel.read_text()[:120_000] for novel in sorted(embedded.glob("*.txt"))]
    path.write_text("".join(texts))
    return str(path)
