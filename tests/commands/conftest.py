"""Every document that a test here prints fits its verb's committed schema."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ngscale.commands import answer
from ngscale.records import dump_json
from tests.reliability.schemas import check


@pytest.fixture(scope="session", autouse=True)
def _printed_documents() -> Iterator[None]:
    def checked(document: Mapping[str, Any]) -> str:
        check(document)
        return dump_json(document)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "dump_json", checked)
        yield
