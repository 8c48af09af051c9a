"""What is audited: a config.json, its specs, and the widths it gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.config_reader import read_config
from ngscale.errors import SpecError
from ngscale.ngram_config import specs_of
from ngscale.ngram_params import ngram_parameters, table_width
from ngscale.spec import NgramSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One config.json."""

    name: str
    specs: tuple[NgramSpec, ...]
    """One, or one for every layer that has tables."""
    config: Mapping[str, Any]
    sha256: str

    @classmethod
    def read(cls, path: Path, name: str) -> "Subject":
        """The config at ``path``.

        Raises:
            InputError: it is no config.json, or has no n-gram tables.
        """
        reader = read_config(path)
        return cls(
            name=name,
            specs=specs_of(reader),
            config=reader.values,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    def parameters(self) -> dict[str, int | None]:
        """Of all tables as stored, and of the projections; None where the config does not say."""
        hidden_size = self.config.get("hidden_size")
        known = hidden_size if type(hidden_size) is int else None
        try:
            tables = sum(spec.physical_rows * table_width(spec, known) for spec in self.specs)
        except SpecError:
            return {"tables": None, "projections": None}
        try:
            counts = [ngram_parameters(spec, hidden_size=known) for spec in self.specs]
        except SpecError:
            return {"tables": tables, "projections": None}
        return {"tables": tables, "projections": sum(each.projections for each in counts)}
