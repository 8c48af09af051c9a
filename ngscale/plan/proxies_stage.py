"""Stage 4: every candidate at a size that can be trained here, with what that keeps and loses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ngscale.design import decoder_config, design_of
from ngscale.errors import NoResultError, SpecError
from ngscale.ngram_config import DECODER_MODEL_TYPE
from ngscale.params import most_active
from ngscale.plan.choices import Choice
from ngscale.plan.request import Request, device_type
from ngscale.plan.stages import Made, Stage
from ngscale.records import Report, RunRecord, Section
from ngscale.train_small.candidates import Shrink, shrink_to

NAME = "4-proxies"
UNKNOWN = "What of the candidates can be trained at a small scale, and what a proxy loses."


def proxies_stage(request: Request, choices: Sequence[Choice]) -> Stage:
    """``ngscale budget CANDIDATE --proxy P`` for each; a candidate without one says why."""
    shrink = shrink_to(device_type(request), None)

    def make(directory: Path) -> Made:
        del directory
        found = [{"name": one.name, **_proxy(one.config, shrink)} for one in choices]
        made = [one for one in found if one["config"] is not None]
        if not made:
            raise NoResultError(f"no candidate can be trained: {found[0]['error']}")
        names = ", ".join(one["name"] for one in made)
        record = RunRecord(
            verb="plan-proxies",
            answer=f"{len(made)} of {len(found)} candidates can be trained here: {names}.",
            inputs={"target": request.target.name, **_inputs(choices, shrink)},
            results={"proxies": found},
        )
        return Made(record=record, report=build_report(record))

    (first, *_) = choices
    return Stage(
        name=NAME,
        inputs=_inputs(choices, shrink),
        make=make,
        argv=(
            "budget",
            f"configs/{first.name}.json",
            "--proxy",
            str(shrink.proxy_size.active_parameters),
        ),
    )


def _inputs(choices: Sequence[Choice], shrink: Shrink) -> dict[str, Any]:
    return {"configs": {one.name: one.config for one in choices}, "shrink": asdict(shrink)}


def _proxy(config: Mapping[str, Any], shrink: Shrink) -> dict[str, Any]:
    """``config`` is what is trained: of the proxy, or of a design that is small enough itself."""
    from ngscale.budget.proxies import proxy_results

    design = design_of(config)
    own = design.model.model_type == DECODER_MODEL_TYPE
    if own and most_active(design) <= shrink.most_active:
        return {"config": decoder_config(design), "shrunk": None, "error": None}
    try:
        found = proxy_results(design, shrink.proxy_size)
    except (SpecError, NoResultError) as error:
        return {"config": None, "shrunk": None, "error": str(error)}
    shrunk = {key: found[key] for key in ("kept", "resonance", "lost")}
    return {
        "config": found["designs"]["design"]["config"],
        "shrunk": shrunk,
        "error": None,
        "designs": found["designs"],
    }


def build_report(record: RunRecord) -> Report:
    """A section for every candidate."""
    proxies = record.results["proxies"]
    return Report(
        title="Proxies of the candidates",
        answer=record.answer,
        sections=tuple(_section(one) for one in proxies),
        configs={one["name"]: one["config"] for one in proxies if one["config"] is not None},
    )


def _section(one: Mapping[str, Any]) -> Section:
    from ngscale.budget.proxies import proxy_section

    heading = f"The proxy of {one['name']}"
    if one["error"] is not None:
        return Section(heading=heading, paragraphs=(f"None: {one['error']}.",))
    if one["shrunk"] is None:
        return Section(heading=heading, paragraphs=("The design is small enough itself.",))
    made = proxy_section({**one["shrunk"], "designs": one["designs"]})
    tables = tuple(replace(table, name=f"proxy-{one['name']}") for table in made.tables)
    kept = tuple(text for text in made.paragraphs if text.startswith("Not kept"))
    sizes = f"Table sizes: {one['shrunk']['resonance']}."
    return replace(made, heading=heading, paragraphs=(sizes, *kept), tables=tables)
