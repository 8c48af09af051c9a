"""The user's own ``ngscale train-small`` records, as far as the allocation curve can use them.

A record counts that is large enough for ``train-small`` itself (``ngscale/conclusive.py``). Whether
its interval contains 0 plays no part: leaving out the undecided would leave in the lucky.
"""

import hashlib
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.conclusive import smoke_test_reasons
from ngscale.config_reader import ConfigReader, read_config
from ngscale.errors import InputError
from ngscale.records import SCHEMA_VERSION

_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPair:
    """One design against its parameter-equivalent MoE."""

    name: str
    """The record's directory, relative to the one that was searched, and the candidate's name."""
    backbone: str
    """Records with equal ones are one study: a short hash of corpus, tokens, constants of training
    and the MoE's active parameters.
    """
    ngram_parameters: int
    total_parameters: int
    active_parameters: int
    moe_loss_nats: float
    """Mean over seeds."""
    differences_nats: tuple[float, ...]
    """Design minus MoE, one per seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecords:
    """What a directory of records gives."""

    pairs: tuple[TrainedPair, ...]
    left_out: tuple[str, ...]
    """One clause for each ``train-small`` record that does not count."""


def read_training_records(directory: Path) -> TrainingRecords:
    """Every ``record.json`` below ``directory``; those of other verbs are passed over.

    Raises:
        InputError: there is no such directory, or a record is damaged.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: is not a directory; give one that holds records")
    pairs, left_out = [], []
    for path in sorted(directory.rglob("record.json")):
        reader = _read(path)
        if reader is None:
            continue
        for pair, tokens in _pairs(reader, path.parent.relative_to(directory).as_posix()):
            reasons = smoke_test_reasons(
                num_seeds=len(pair.differences_nats),
                tokens_per_active_parameter=tokens / pair.active_parameters,
            )
            if reasons:
                left_out.append(f"{pair.name}: {'; '.join(reasons)}")
            else:
                pairs.append(pair)
    return TrainingRecords(pairs=tuple(pairs), left_out=tuple(left_out))


def _read(path: Path) -> ConfigReader | None:
    """The record, None where it is another verb's."""
    reader = read_config(path, "record.json")
    values = reader.values
    if not isinstance(values.get("verb"), str):
        raise reader.fail("verb", f"must be a string, got {json.dumps(values.get('verb'))}")
    if values["verb"] != "train-small":
        return None
    if values.get("schema_version") != SCHEMA_VERSION:
        raise reader.fail(
            "schema_version",
            f"must be {SCHEMA_VERSION}, got {json.dumps(values.get('schema_version'))}",
        )
    return reader


def _pairs(reader: ConfigReader, name: str) -> list[tuple[TrainedPair, int]]:
    """That of the record, or one for each of its candidates."""
    inputs = reader.object("inputs")
    if "candidates" not in reader.values:
        return [_pair(reader, inputs, name)]
    return [
        _pair(candidate, inputs, f"{name}/{candidate.values.get('name')}")
        for candidate in _objects(reader, "candidates")
    ]


def _pair(reader: ConfigReader, inputs: ConfigReader, name: str) -> tuple[TrainedPair, int]:
    tokens = inputs.whole("tokens", maximum=_MOST)
    arms = {arm.values.get("name"): arm for arm in _objects(reader, "arms")}
    for wanted in ("design", "equivalent-moe"):
        if wanted not in arms:
            raise reader.fail("arms", f"has no {wanted}")
    design, moe = arms["design"], arms["equivalent-moe"]
    losses = [
        float(run.number("val_loss_nats"))
        for run in _objects(reader, "runs")
        if run.values.get("arm") == "equivalent-moe"
    ]
    if not losses:
        raise reader.fail("runs", "has none of equivalent-moe")
    active = moe.whole("active_parameters", maximum=_MOST)
    pair = TrainedPair(
        name=name,
        backbone=_short_hash(
            [inputs.values.get("corpus"), inputs.values.get("training"), tokens, active]
        ),
        ngram_parameters=design.object("groups").whole("ngram_tables", maximum=_MOST),
        total_parameters=design.whole("total_parameters", maximum=_MOST),
        active_parameters=design.whole("active_parameters", maximum=_MOST),
        moe_loss_nats=statistics.fmean(losses),
        differences_nats=_differences(reader, len(losses)),
    )
    if pair.ngram_parameters >= pair.total_parameters:
        raise design.fail("total_parameters", "is not above groups.ngram_tables")
    return pair, tokens


def _short_hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def _differences(reader: ConfigReader, num_seeds: int) -> tuple[float, ...]:
    for comparison in _objects(reader, "comparisons"):
        if comparison.values.get("baseline") != "equivalent-moe":
            continue
        found = comparison.values.get("differences")
        if (
            not isinstance(found, list)
            or len(found) != num_seeds
            or not all(type(item) in (int, float) and math.isfinite(item) for item in found)
        ):
            raise comparison.fail(
                "differences", f"must be {num_seeds} finite numbers, one per seed"
            )
        return tuple(float(item) for item in found)
    raise reader.fail("comparisons", "has none with equivalent-moe")


def _objects(reader: ConfigReader, key: str) -> list[ConfigReader]:
    found: Any = reader.values.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise reader.fail(key, "must be a list of objects")
    return [
        ConfigReader(item, reader.source, f"{reader.prefix}{key}[{index}].")
        for index, item in enumerate(found)
    ]
