"""``ngscale budget``."""

from typing import Annotated

import typer

from ngscale import presets
from ngscale.commands.answer import JsonOption, OutOption, answer
from ngscale.params import Dtype


def _complete(incomplete: str) -> list[str]:
    return [name for name in presets.names() if name.startswith(incomplete)]


def budget(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=f"A preset ({', '.join(presets.names())}), a config.json, or a directory that "
            "holds one.",
            autocompletion=_complete,
        ),
    ],
    dtype: Annotated[Dtype, typer.Option(help="What weights are stored as.")] = "bf16",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Count a design's parameters, memory and table reads, and price the equivalent MoE.

    Example: ngscale budget longcat-flash-lite
    """
    import hashlib

    from ngscale.budget import build, report
    from ngscale.design import read_design

    path = presets.resolve(target)
    design = read_design(path)
    record = build(
        design,
        target=presets.title(target),
        config_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        dtype=dtype,
    )
    answer(record, report(record), as_json=as_json, out=out)
