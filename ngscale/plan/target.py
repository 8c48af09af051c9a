"""What is planned: a config.json, its tables, and the whole design where it is published."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale import presets
from ngscale.config_reader import read_config
from ngscale.design import Design, read_design
from ngscale.ngram_config import specs_if_any
from ngscale.spec import NgramSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One config.json."""

    name: str
    """What reports call it; no path."""
    path: Path
    config: Mapping[str, Any]
    sha256: str
    specs: tuple[NgramSpec, ...]
    """None, one, or one for every layer that has tables."""
    design: Design | None
    """None of a preset of which the tables alone are published."""

    @property
    def polynomial(self) -> NgramSpec | None:
        """Its tables, where they are one set of LongCat's hash."""
        one = self.specs[0] if len(self.specs) == 1 else None
        return None if one is None or one.hash_base is None else one


def read_target(target: str) -> Target:
    """A preset, a config.json or a directory that holds one.

    Raises:
        InputError: it is none, or not understood.
    """
    path = presets.resolve(target)
    reader = read_config(path)
    tables_alone = target in presets.all_names() and target not in presets.names()
    design = None if tables_alone else read_design(path)
    return Target(
        name=presets.title(target),
        path=path,
        config=dict(reader.values),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        specs=specs_if_any(reader) if design is None else design.ngrams,
        design=design,
    )
