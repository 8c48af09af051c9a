"""Every document that a test here prints fits its verb's committed schema.

With NGSCALE_PRINTED=DIR they are kept there instead, for docs/widen_schemas.py.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ngscale.commands import answer
from ngscale.records import dump_json
from tests.reliability.schemas import check


@pytest.fixture(scope="module", autouse=True)
def _printed_documents() -> Iterator[None]:
    kept = os.environ.get("NGSCALE_PRINTED")

    def checked(document: Mapping[str, Any]) -> str:
        text = dump_json(document)
        if kept is None:
            check(json.loads(text))
        else:
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            Path(kept, f"{document['verb']}-{name}.json").write_text(text, encoding="utf-8")
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "dump_json", checked)
        yield
