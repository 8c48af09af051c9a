"""``--proxy``: the small design, its parameter-equivalent MoE and the placebo, and their report."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ngscale.design import Design, decoder_config
from ngscale.params import parameter_equivalent_moe, total_parameters
from ngscale.proxy_size import ProxySize
from ngscale.records import Column, Section, Table
from ngscale.spec import capacity_1
from ngscale.units import format_count


def proxy_results(design: Design, size: ProxySize) -> dict[str, Any]:
    """The ``proxy`` of a budget's record.

    Raises:
        SpecError: the design has no experts or no tables of LongCat's kind.
        NoResultError: no small design comes near.
    """
    from ngscale.proxy import proxy  # brings numpy

    found = proxy(design, size)
    designs = {
        "design": found.design,
        "parameter-equivalent-moe": parameter_equivalent_moe(found.design),
        "capacity-1": replace(found.design, ngrams=tuple(map(capacity_1, found.design.ngrams))),
    }
    return {
        **found.account,
        "designs": {
            name: {"total_parameters": total_parameters(one), "config": decoder_config(one)}
            for name, one in designs.items()
        },
    }


def proxy_answer(target: str, found: Mapping[str, Any]) -> str:
    """One sentence."""
    numbers = {one["name"]: one for one in found["kept"]}
    active, total = numbers["active parameters"], numbers["total parameters"]
    share, ratio = numbers["n-gram share of total"], numbers["total / active"]
    return (
        f"A proxy of {target} with {format_count(active['proxy'])} active of "
        f"{format_count(total['proxy'])} parameters keeps total/active at {ratio['proxy']:.2f} "
        f"({ratio['design']:.2f}), the tables' share at {share['proxy']:.1%} "
        f"({share['design']:.1%}) and {found['resonance']}; {len(found['lost'])} things are lost."
    )


def proxy_section(found: Mapping[str, Any]) -> Section:
    """What is kept and what is not."""
    columns = (
        Column(key="name", title="quantity"),
        Column(key="design", title="design", spec=",.10g"),
        Column(key="proxy", title="proxy", spec=",.10g"),
    )
    designs = ", ".join(
        f"{name} ({format_count(one['total_parameters'])})"
        for name, one in found["designs"].items()
    )
    return Section(
        heading="The proxy",
        paragraphs=(
            f"`configs/` has {designs}: `ngscale train-small configs/design.json` trains it beside "
            f"the others. Table sizes: {found['resonance']}.",
            "Not kept: " + " ".join(found["lost"]),
        ),
        tables=(Table(name="proxy", title="Kept", columns=columns, rows=found["kept"]),),
    )
