"""Designs whose costs are known."""

import json
from pathlib import Path
from typing import Any

from ngscale import presets
from ngscale.design import Design, read_design

LITE = read_design(presets.resolve("longcat-flash-lite"))
LLAMA_8B = read_design(presets.resolve("llama-3.1-8b"))
"""8,030,261,248 parameters, as meta-llama/Meta-Llama-3-8B."""
DEEPSEEK_V3 = read_design(presets.resolve("deepseek-v3"))
"""arXiv:2412.19437, sec. 4.2: 671B parameters, 37B active."""
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
}


def design_of(config: dict[str, Any], directory: Path) -> Design:
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    return read_design(path)


def changed(preset: str, directory: Path, **changes: Any) -> Design:
    """A preset with some keys of its config.json changed."""
    return design_of(json.loads(presets.resolve(preset).read_text()) | changes, directory)
