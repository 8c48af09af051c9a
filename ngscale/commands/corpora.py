"""``ngscale corpora``: what text and tokenizers there are by name, and building the big ones."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ngscale import artefacts
from ngscale.commands.answer import JsonOption, answer, starting
from ngscale.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from ngscale.records import Report

app = typer.Typer(
    name="corpora",
    help="List and build the corpora and tokenizers that have a name.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_corpora(as_json: JsonOption = False) -> None:
    """What is embedded, built, or can be built; sizes and licences.

    Example: ngscale corpora list
    """
    from ngscale.records import RunRecord

    rows = [
        {
            "name": item.name,
            "kind": item.kind,
            "state": _state(item),
            "num_bytes": item.num_bytes,
            "licence": item.licence,
            "source": item.source,
            "path": str(item.built_dir) if item.is_built else None,
        }
        for item in artefacts.manifest()
        if item.committed or item.buildable
    ]
    counts = {state: sum(row["state"] == state for row in rows) for state in _STATES}
    line = ", ".join(f"{count} {state}" for state, count in counts.items())
    record = RunRecord(
        verb="corpora list",
        answer=f"{line}; ngscale corpora build NAME builds below {artefacts.cache_dir()}.",
        inputs={"cache": str(artefacts.cache_dir())},
        results={"artefacts": rows},
    )
    answer(record, _report(record.answer, rows), as_json=as_json, out=None)


_STATES = ("embedded", "built", "not built")


def _state(item: artefacts.Artefact) -> str:
    if item.committed:
        return "embedded"
    return "built" if item.is_built else "not built"


def _report(line: str, rows: Sequence[Mapping[str, object]]) -> "Report":
    from ngscale.records import Column, Report, Section, Table

    columns = (
        Column(key="name", title="name"),
        Column(key="kind", title="kind"),
        Column(key="state", title="state"),
        Column(key="num_bytes", title="bytes", spec=",d"),
        Column(key="licence", title="licence"),
    )
    table = Table(name="artefacts", title="By name", columns=columns, rows=rows)
    section = Section(heading="Corpora and tokenizers", tables=(table,))
    return Report(title="Corpora and tokenizers", answer=line, sections=(section,))


_complete = starting(lambda: [item.name for item in artefacts.manifest() if item.buildable])


@app.command("build")
def build(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="What to build; see the list.", autocompletion=_complete
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Build here instead of the cache, where it is found by name.",
        ),
    ] = None,
) -> None:
    """Run the recipe of a corpus, tokenizer or checkpoint; a killed build goes on where it was.

    Example: ngscale corpora build tekken
    """
    known = {item.name: item for item in artefacts.manifest() if item.buildable}
    if name not in known:
        raise UsageError(f"{name}: nothing to build by that name; known: {', '.join(known)}")
    directory = out or known[name].built_dir
    if out is None and known[name].is_built:
        sys.stdout.write(f"{directory}\n")
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    recipe = artefacts.embedded_dir() / "recipes" / known[name].script
    command = [sys.executable, "-B", str(recipe), "--out", str(directory)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        raise ResourceError(f"{name}: its recipe was ended by {how}; the same command goes on")
    if done.returncode:
        raise typer.Exit(done.returncode)
    sys.stdout.write(f"{directory}\n")
