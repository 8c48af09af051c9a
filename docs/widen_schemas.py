"""Widen docs/schemas/VERB.json by documents that a verb printed, after a change of its keys.

python docs/widen_schemas.py FILE ...

Many documents of every verb: NGSCALE_PRINTED=DIR pytest tests/commands keeps what they print.

A schema holds what has been seen: every key with the types it had, required where no document of
its kind lacked it, nothing beside. A key that is gone, or was renamed, stays as an optional one:
delete it. Each kind of document (a sweep, a recommendation, ...) is a branch of its own.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parent / "schemas"
ENVIRONMENT = "environment"
KINDS = {
    "collisions": ("proposals", "hit_rates"),
    "audit": ("audits",),
    "ids": ("num_vectors",),
    "probe": ("series", "quantisation"),
    "decode": ("steps",),
    "train-small": ("candidates",),
}
"""Keys that tell a verb's kinds of documents apart; a document without any is the plain one."""
_FREE = ("patch", "config", "configs", "inputs.arms", "inputs.design", "inputs.designs")
"""Objects in the words of somebody else: a config.json's."""
_BY_NAME = (
    *("excess_collisions", "excess_impurity", "at_multiples", "at_primes", "just_off"),
    *("baseline", "above", "at", "row", "block", "group_bytes", "coefficients", "rules"),
    *("reasons", "dtypes", "sha256", "sha256_of_headers", "equal", "head.model"),
)
"""Objects whose keys are names or numbers of the input; ``head.model`` only below ``head``."""


def schema_path(verb: str) -> Path:
    """Where the schema of a verb's documents is."""
    return SCHEMAS / f"{verb.replace(' ', '-')}.json"


def kind_of(document: Mapping[str, Any]) -> str:
    """Name of the branch that a document belongs to."""
    kinds = KINDS.get(document["verb"], ())
    return next((key for key in kinds if key in document), "plain")


def widen(schema: dict[str, Any], document: Mapping[str, Any]) -> None:
    """Make the schema of a verb take one more document."""
    schema.setdefault("$schema", "https://json-schema.org/draft/2020-12/schema")
    schema.setdefault("title", f"ngscale {document['verb']} --json, and record.json")
    schema.setdefault("oneOf", [])
    definitions = schema.setdefault("$defs", {ENVIRONMENT: _environment()})
    name = kind_of(document)
    if name not in definitions:
        schema["oneOf"].append({"$ref": f"#/$defs/{name}"})
        definitions[name] = {}
    branch = definitions[name]
    _take(branch, {key: value for key, value in document.items() if key != ENVIRONMENT})
    properties = branch["properties"]
    properties["schema_version"] = {"const": document["schema_version"]}
    properties["verb"] = {"const": document["verb"]}
    properties[ENVIRONMENT] = {"$ref": f"#/$defs/{ENVIRONMENT}"}


def _environment() -> dict[str, Any]:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    speeds = {"type": "object", "additionalProperties": {"type": "number"}}
    properties = {
        "argv": {"type": "array", "items": {"type": "string"}},
        "date": {"type": "string"},
        "machine": {"type": "string"},
        "platform": {"type": "string"},
        "num_cpus": {"type": ["integer", "null"]},
        "versions": texts,
    }
    return {
        "description": "When, where and with what; not in record.json. Further keys: what this "
        "machine made of it, such as tokens_per_s by name.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": speeds,
    }


def _take(schema: dict[str, Any], value: Any, key: str = "", parent: str = "") -> None:
    _take_type(schema, value)
    if isinstance(value, list):
        for item in value:
            _take(schema.setdefault("items", {}), item)
    names = {key, f"{parent}.{key}"}
    if not isinstance(value, Mapping) or names & set(_FREE):
        return
    if names & set(_BY_NAME) or (value and all(_is_number(name) for name in value)):
        for item in value.values():
            _take(schema.setdefault("additionalProperties", {}), item)
        return
    known = schema.setdefault("properties", {})
    schema["required"] = [name for name in schema.get("required", value) if name in value]
    for name, item in value.items():
        _take(known.setdefault(name, {}), item, name, key)
    schema["additionalProperties"] = False


def _take_type(schema: dict[str, Any], value: Any) -> None:
    found = schema.get("type", [])
    types = {found} if isinstance(found, str) else set(found)
    types.add(_type(value))
    if "number" in types:
        types.discard("integer")
    schema["type"] = sorted(types) if len(types) > 1 else types.pop()


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _is_number(name: str) -> bool:
    return name.replace(".", "", 1).isdigit()


def main() -> None:
    """Widen the schemas by the files named on the command line."""
    for name in sys.argv[1:]:
        document = json.loads(Path(name).read_bytes())
        path = schema_path(document["verb"])
        schema = json.loads(path.read_bytes()) if path.exists() else {}
        widen(schema, document)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
