"""Whole documents, as the tests want them: the package reads long ones in parts."""

from collections.abc import Sequence

from ngscale.corpus import Reading, read_parts


def read_documents(sources: Sequence[str], reading: Reading | None = None) -> list[str]:
    """The documents of all sources in order."""
    documents, held = [], ""
    for part in read_parts(sources, Reading() if reading is None else reading):
        held += part.text
        if part.ends:
            documents.append(held)
            held = ""
    return documents
