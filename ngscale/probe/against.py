"""Two checkpoints on the same tokens: their records side by side."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ngscale.errors import InputError
from ngscale.records import Column, RunRecord, Section, Table


def add_other(record: RunRecord, other: RunRecord) -> RunRecord:
    """``record`` with the medians of ``other`` under ``against``.

    Raises:
        InputError: they did not read the same tokens, or have no sub-layer in common.
    """
    for key in ("texts", "window"):
        if record.inputs[key] != other.inputs[key]:
            raise InputError(
                f"{other.inputs['model']['name']}: was not read with the same tokens as "
                f"{record.inputs['model']['name']}; --tokenizer takes one that fits both"
            )
    theirs = {layer["name"]: layer for layer in other.results["layers"]}
    layers = [
        {
            "name": layer["name"],
            "ratio": layer["ratio"]["median"],
            "ratio_against": theirs[layer["name"]]["ratio"]["median"],
            "write": layer["write"]["median"],
            "write_against": theirs[layer["name"]]["write"]["median"],
        }
        for layer in record.results["layers"]
        if layer["name"] in theirs
    ]
    if not layers:
        raise InputError(f"{other.inputs['model']['name']}: has no sub-layer of the same name")
    shares = {
        share["after"]: share["share"]["median"] for share in other.results["embedding_share"]
    }
    compared = {
        "model": other.inputs["model"],
        "closure": other.results["closure"],
        "layers": layers,
        "embedding_share": [
            {
                "after": share["after"],
                "share": share["share"]["median"],
                "share_against": shares[share["after"]],
            }
            for share in record.results["embedding_share"]
            if share["after"] in shares
        ],
    }
    first = compared["embedding_share"][0]
    answer = (
        f"{record.answer} Against {other.inputs['model']['name']}: after layer "
        f"{first['after'][1:]} the embedding is {100 * first['share']:.2g}% of the stream here and "
        f"{100 * first['share_against']:.2g}% there."
    )
    return replace(record, answer=answer, results={**record.results, "against": compared})


def section(compared: Mapping[str, Any]) -> Section:
    """Both checkpoints by sub-layer and by layer."""
    name = compared["model"]["name"]
    return Section(
        heading="Against the other checkpoint",
        paragraphs=(
            f"{name} on the same tokens; medians over tokens, first positions left out. It closes "
            f"to {compared['closure']['max_relative_error']:.1g}.",
        ),
        tables=(
            Table(
                name="against",
                title=f"Here and in {name}",
                columns=(
                    Column(key="name", title="write"),
                    Column(key="write", title="|write|", spec=".4g"),
                    Column(key="write_against", title="there", spec=".4g"),
                    Column(key="ratio", title="ratio", spec=".3f"),
                    Column(key="ratio_against", title="there", spec=".3f"),
                ),
                rows=compared["layers"],
            ),
            Table(
                name="share_against",
                title=f"Embedding's share, here and in {name}",
                columns=(
                    Column(key="after", title="after"),
                    Column(key="share", title="share", spec=".4f"),
                    Column(key="share_against", title="there", spec=".4f"),
                ),
                rows=compared["embedding_share"],
            ),
        ),
    )
