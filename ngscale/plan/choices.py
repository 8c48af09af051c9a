"""The designs that are chosen among: the target's own share of tables, and those of the budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ngscale.budget.limits import Limits
from ngscale.config_reader import ConfigReader
from ngscale.errors import InputError
from ngscale.ngram_config import specs_if_any
from ngscale.params import ACTIVE_CONVENTION
from ngscale.plan.target import Target
from ngscale.records import RunRecord

OWN = "own-share"
MOE = "parameter-equivalent-moe"
_ALIKE = 0.01
"""Of the total: candidates whose shares are closer are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One design, with what is known of it before anything is trained."""

    name: str
    why: str
    config: Mapping[str, Any]
    ngram_share: float
    total_parameters: int
    active_parameters: int
    hbm_bytes: int
    """Weights and caches; tables in host memory are not in it."""
    host_bytes: int
    fits: bool
    loss_difference: float | None
    """To the MoE of equal total, by the named source; None where it has no evidence."""
    loss_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What is chosen among, in the order that proxies are trained in; the MoE is the last."""

    designs: tuple[Choice, ...]
    patch: Mapping[str, Any] | None
    """Keys that the target's own config.json changes; None where it stays what it is."""
    notes: tuple[str, ...]
    """What is not a candidate, and why."""

    @property
    def with_tables(self) -> tuple[Choice, ...]:
        """Those that a proxy can be trained of."""
        return tuple(one for one in self.designs if one.name != MOE)


def merged(config: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Merge Patch applied (RFC 7396)."""
    made = dict(config)
    for key, value in patch.items():
        own = made.get(key)
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Mapping):
            made[key] = merged(own if isinstance(own, Mapping) else {}, value)
        else:
            made[key] = value
    return made


def patch_of(
    target: Target, audit: RunRecord | None, sizes: RunRecord | None
) -> Mapping[str, Any] | None:
    """The keys to change where the audit finds the sizes unsound: the best measured proposal that
    released loaders read, else the best one; without text the audit's smallest change.

    A ratio is no proposal for a config.json that lists its rows, which go before a ratio.
    """
    if audit is None or audit.results["patch"] is None:
        return None
    own: Mapping[str, Any] = audit.results["patch"]
    if sizes is None or "corpus" not in sizes.inputs:
        return own
    ranked: list[Mapping[str, Any]] = [
        one["patch"] for one in sizes.results["proposals"] if _takes(target, one)
    ]
    return next((patch for patch in ranked if "ngscale" not in patch), next(iter(ranked), own))


def _takes(target: Target, proposal: Mapping[str, Any]) -> bool:
    """Whether the patched config.json has the rows proposed."""
    reader = ConfigReader(merged(target.config, proposal["patch"]), "config.json")
    try:
        specs = specs_if_any(reader)
    except InputError:  # its other keys contradict the patch
        return False
    return [list(spec.table_rows) for spec in specs] == [proposal["table_rows"]]


def choose(
    target: Target,
    limits: Limits,
    budget: RunRecord,
    audit: RunRecord | None,
    sizes: RunRecord | None,
) -> Choices:
    """The target's own share first, then the budget's candidates."""
    found, notes = list[Choice](), list[str]()
    patch = patch_of(target, audit, sizes)
    own = _own(target, limits, budget, patch)
    if own is not None and own.fits:
        found.append(own)
    elif own is not None:
        notes.append(f"No {OWN} candidate: the target's own tables and experts exceed the limits.")
    for document in budget.results["candidates"]:
        one = _candidate(document, limits)
        alike = [made for made in found if _are_alike(made, one)]
        if alike:
            notes.append(f"No {one.name} candidate: it is {alike[0].name} within {_ALIKE:.0%}.")
        else:
            found.append(one)
    found.sort(key=lambda one: one.name == MOE)
    notes += budget.results["proposal"]["missing"]
    return Choices(designs=tuple(found), patch=patch, notes=tuple(notes))


def _are_alike(one: Choice, other: Choice) -> bool:
    same_place = (one.host_bytes > 0) == (other.host_bytes > 0)
    return same_place and abs(one.ngram_share - other.ngram_share) < _ALIKE


def _candidate(document: Mapping[str, Any], limits: Limits) -> Choice:
    return Choice(
        name=document["name"],
        why=document["why"],
        config=document["config"],
        ngram_share=document["ngram_share"],
        total_parameters=document["total_parameters"],
        active_parameters=document["active_parameters"],
        hbm_bytes=document["hbm_bytes"],
        host_bytes=document["host_bytes"],
        fits=_fits(document["hbm_bytes"], document["host_bytes"], limits),
        loss_difference=document["loss_difference"],
        loss_reason=document["loss_reason"],
    )


def _fits(hbm_bytes: int, host_bytes: int, limits: Limits) -> bool:
    in_hbm = limits.hbm_bytes is None or hbm_bytes <= limits.hbm_bytes
    return in_hbm and host_bytes <= (limits.host_bytes or 0)


def _own(
    target: Target, limits: Limits, budget: RunRecord, patch: Mapping[str, Any] | None
) -> Choice | None:
    """The target itself; None where it has no tables, or another total than is asked for."""
    results = budget.results
    parameters, memory = results["parameters"], results["memory"]
    if not target.specs or parameters["total"] != limits.total_parameters:
        return None
    table_bytes = memory["ngram_table_bytes"]
    hbm_bytes, host_bytes = memory["weight_bytes"] + memory["kv_cache"]["bytes"], 0
    if not _fits(hbm_bytes, 0, limits) and limits.host_bytes:
        hbm_bytes, host_bytes = hbm_bytes - table_bytes, table_bytes
    differences: Sequence[Mapping[str, Any]] = results["loss_differences"]
    evidence = next((one for one in differences if one["key"] == limits.source), None)
    return Choice(
        name=OWN,
        why="the target's own experts and share of tables"
        + ("" if patch is None else ", its table sizes mended"),
        config=dict(target.config) if patch is None else merged(target.config, patch),
        ngram_share=parameters["ngram_share"],
        total_parameters=parameters["total"],
        active_parameters=parameters["active"][ACTIVE_CONVENTION]["max"],
        hbm_bytes=hbm_bytes,
        host_bytes=host_bytes,
        fits=_fits(hbm_bytes, host_bytes, limits),
        loss_difference=None if evidence is None else evidence["nats"],
        loss_reason="no such source" if evidence is None else evidence["reason"],
    )
