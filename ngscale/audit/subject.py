"""What is audited: a config.json, its specs, and the widths it gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.config_reader import read_config
from ngscale.ngram_config import specs_of
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

    def table_width(self, spec: NgramSpec) -> int | None:
        """Columns of a table: stated, or ``hidden_size // E``; None where neither is known."""
        if spec.row_width is not None:
            return spec.row_width
        hidden_size = self.config.get("hidden_size")
        return hidden_size // spec.num_tables if type(hidden_size) is int else None

    def parameters(self) -> dict[str, int | None]:
        """Of all tables as stored, and of the projections where fusion has one per table."""
        tables = 0
        projections: int | None = 0
        for spec in self.specs:
            width = self.table_width(spec)
            if width is None:
                return {"tables": None, "projections": None}
            tables += spec.physical_rows * width
            projected = spec.fusion == "average" and projections is not None
            projections = (
                projections + spec.num_tables * width * self.config["hidden_size"]
                if projected and projections is not None
                else None
            )
        return {"tables": tables, "projections": projections}
