"""docs/schemas: strict enough that a renamed or retyped key of a document does not fit."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.widen_schemas import ENVIRONMENT, SCHEMAS, schema_path, widen
from ngscale.records import read_record
from reports.render import directories
from tests.reliability.schemas import check, validator

DRY = ("train-small-plan", "plan-dry-run")
VERBS = (
    *("collisions", "audit", "budget", "ids", "probe", "decode", "train-small", "cache", "plan"),
    *("corpora list", *DRY),
)
BY_OPTION = {"adaptive", "against", "at_tokens"}
"""Results that are there where an option asks for them."""
_QUICK_BYTES = 200_000
OWN = [d for d in directories() if read_record(d / "record.json").verb in VERBS]


def size(directory: Path) -> int:
    return (directory / "record.json").stat().st_size


RECORDS = [
    pytest.param(d, id=d.name, marks=[] if size(d) < _QUICK_BYTES else [pytest.mark.slow])
    for d in OWN
]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema of an object and those of everything in it."""
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from nodes(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


def test_every_verb_has_a_schema_and_no_other() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == {schema_path(verb).name for verb in VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_a_schema_leaves_no_key_and_no_type_open(verb: str) -> None:
    schema: Any = validator(verb).schema
    for branch in schema["oneOf"]:
        kind = schema["$defs"][branch["$ref"].rpartition("/")[2]]
        assert set(kind["required"]) == set(kind["properties"]) - {ENVIRONMENT} - BY_OPTION
        for node in nodes(kind):
            assert node.keys() & {"type", "const", "$ref"}, node
            if "properties" in node:
                assert node["additionalProperties"] is False


@pytest.mark.parametrize("directory", RECORDS)
def test_a_committed_record_fits(directory: Path) -> None:
    check(json.loads((directory / "record.json").read_bytes()))


def test_a_renamed_or_retyped_key_does_not_fit() -> None:
    """Of the smallest committed record of every verb, each key at the top and in ``inputs``."""
    smallest = {read_record(d / "record.json").verb: d for d in sorted(OWN, key=size, reverse=True)}
    assert len(smallest) == 8
    num_changes = 0
    for directory in smallest.values():
        document = json.loads((directory / "record.json").read_bytes())
        check(document)
        places = [(), ("inputs",)]
        for path in places:
            for key in _at(document, path):
                for change in (_rename, _retype):
                    changed = copy.deepcopy(document)
                    change(_at(changed, path), key)
                    assert next(validator(document["verb"]).iter_errors(changed), None), (
                        directory.name,
                        path,
                        key,
                        change.__name__,
                    )
                    num_changes += 1
    assert num_changes > 100


def _at(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        document = document[key]
    return document


def _rename(values: dict[str, Any], key: str) -> None:
    values[f"{key}_"] = values.pop(key)


def _retype(values: dict[str, Any], key: str) -> None:
    values[key] = {"a": 1} if not isinstance(values[key], dict) else [1]


def test_a_schema_widened_by_what_it_takes_stays_as_it_is() -> None:
    for directory in (d for d in OWN if size(d) < _QUICK_BYTES):
        document = json.loads((directory / "record.json").read_bytes())
        schema = json.loads(schema_path(document["verb"]).read_bytes())
        before = copy.deepcopy(schema)
        widen(schema, document)
        assert schema == before, directory.name
