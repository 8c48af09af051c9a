"""The committed schema of what a verb prints, and whether a document fits it."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from docs.widen_schemas import schema_path


@functools.cache
def validator(verb: str) -> Draft202012Validator:
    """Of docs/schemas/VERB.json."""
    schema = json.loads(schema_path(verb).read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check(document: Mapping[str, Any]) -> None:
    """Raise AssertionError with the place where the document departs from its verb's schema."""
    error = best_match(validator(document["verb"]).iter_errors(document))
    assert error is None, f"{document['verb']}: {error.json_path}: {error.message[:300]}"
