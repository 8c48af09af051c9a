"""The smallest change that passes the audit: searched, then checked by the audit's own faults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ngscale.row_counts import longcat_rows
from ngscale.size_patch import ratio_key, rows_patch
from ngscale.spec import NgramSpec
from ngscale.table_sizes import sound_ratio, sound_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Keys to set in config.json, the sizes they give, and the change in words."""

    patch: Mapping[str, Any]
    table_rows: tuple[int, ...]
    sentence: str


def propose(spec: NgramSpec, config: Mapping[str, Any]) -> Fix | None:
    """For sizes that have faults; None where no sound ones are found."""
    base, orders = spec.hash_base, spec.table_orders
    assert base is not None
    key = ratio_key(config)
    if spec.row_family == "longcat" and key is not None and key in config:
        ratio = sound_ratio(config[key], base, orders)
        if ratio is None:
            return None
        rows = longcat_rows(ratio, base, spec.num_tables)
        change = sum(rows) - sum(spec.table_rows)
        return Fix(
            patch={key: ratio},
            table_rows=rows,
            sentence=f"smallest change: {key} {config[key]} -> {ratio} keeps the loader's formula "
            f"and frees all {spec.num_tables} tables ({change:+,} rows)",
        )
    found = sound_sizes(spec.table_rows, base, orders)
    if found is None:
        return None
    moved = max(abs(new - old) for new, old in zip(found, spec.table_rows, strict=True))
    return Fix(
        patch=rows_patch(config, found),
        table_rows=found,
        sentence=f"smallest change: {', '.join(f'{rows:,}' for rows in found)} rows, at most "
        f"{moved:,} from what they are",
    )
