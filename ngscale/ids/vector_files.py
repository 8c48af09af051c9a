"""A file of vectors -> a record of what differs; a target -> such a file."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from ngscale.errors import InputError, SpecError
from ngscale.ids.run import Subject, policy_json, under
from ngscale.records import SCHEMA_VERSION, RunRecord
from ngscale.vectors import Difference, check_vector, export_vectors, read_vectors


def check_record(path: Path) -> RunRecord:
    """Every vector of a file against the definition.

    Raises:
        InputError: the file is not one of vectors; names the entry and the key.
    """
    vectors = read_vectors(path)
    differences = [(index, check_vector(vector)) for index, vector in enumerate(vectors)]
    failed = [(index, found) for index, found in differences if found is not None]
    schemes = dict.fromkeys(vector.scheme for vector in vectors)
    wrong = Counter(vectors[index].scheme for index, _ in failed)
    rows = []
    for scheme in schemes:
        own = [vector for vector in vectors if vector.scheme == scheme]
        rows.append(
            {
                "scheme": scheme,
                "vectors": len(own),
                "pass": len(own) - wrong[scheme],
                "differ": wrong[scheme],
                "positions": sum(len(vector.tokens) for vector in own),
                "look_ups": sum(len(vector.tokens) * vector.spec.num_tables for vector in own),
            }
        )
    listed = [_failure(index, vectors[index].scheme, found) for index, found in failed]
    name = path.name.encode(errors="replace").decode()
    look_ups = sum(row["look_ups"] for row in rows if isinstance(row["look_ups"], int))
    answer = (
        f"All {len(vectors)} vectors of {name} pass: {look_ups:,} look-ups in "
        f"{len(schemes)} schemes."
    )
    if listed:
        answer = f"{len(listed)} of {len(vectors)} vectors of {name} differ; {listed[0]['line']}."
    return RunRecord(
        verb="ids",
        answer=answer,
        inputs={"vectors": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        results={
            "num_vectors": len(vectors),
            "num_differ": len(listed),
            "schemes": rows,
            "differences": listed,
        },
    )


def _failure(index: int, scheme: str, found: Difference) -> dict[str, Any]:
    where = f"vectors[{index}] ({scheme})"
    line = f"{where}: {found.what}"
    if found.position is not None:
        line = (
            f"{where}: {found.what} at position {found.position}, table {found.table}: the file "
            f"says {_json(found.expected)}, computed {_json(found.computed)}"
        )
    return {
        "vector": index,
        "scheme": scheme,
        "what": found.what,
        "position": found.position,
        "table": found.table,
        "expected": found.expected,
        "computed": found.computed,
        "line": line,
    }


def _json(value: int | bool | None) -> str:
    return "null" if value is None else str(value).lower()


def export(subject: Subject, policy: str | None, number: int, seed: int) -> dict[str, Any]:
    """``number`` vectors of every layer's tables; the file passes ``check_record``."""
    specs = under(subject, policy)
    try:
        files = [export_vectors(spec, number, seed) for spec in specs]
    except SpecError as error:
        raise InputError(f"{subject.title}: {error}") from error
    return {
        "schema_version": SCHEMA_VERSION,
        **files[0],
        "target": subject.title,
        "policy": policy_json(subject, specs[0], policy),
        "vectors": [vector for file in files for vector in file["vectors"]],
    }
