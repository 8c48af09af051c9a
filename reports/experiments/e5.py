"""E5, placement: tables at the input, PLE, PLNE in every layer or in one (the paper's Fig. 9).

PLE has V0 rows a layer and no free size, so it is paired with input tables of its own total; both
PLNE with input tables of theirs. On shortcut blocks, whose first dense block PLE and PLNE enter.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ngscale.design import Design
from ngscale.params import total_parameters
from ngscale.spec import NgramSpec
from reports.experiments.outcome import Experiment, Found
from reports.experiments.report import difference_figure
from reports.experiments.scale import (
    BACKBONE,
    HIDDEN_SIZE,
    ROWS,
    VOCAB_SIZE,
    Arm,
    clean_rows,
    tables,
)
from reports.experiments.scale import design_of as on_backbone

SHORTCUT = replace(BACKBONE, block="shortcut", intermediate_size=HIDDEN_SIZE, num_experts=40)
LAYERS = (0, 1)
MAX_ORDER, NUM_SUBTABLES = 4, 4


def arms() -> list[Arm]:
    """Two pairings of equal totals within 0.1%."""
    ple = design_of(*(_ple(layer) for layer in LAYERS))
    at_input = design_of(_input(ROWS))
    total = total_parameters(at_input)
    return [
        _arm("PLE", "ple, both layers", ple),
        _arm("PLE", "input", _sized(lambda rows: [_input(rows)], total_parameters(ple))),
        _arm("PLNE", "input", at_input),
        _arm("PLNE", "plne, both layers", _sized(lambda r: [_plne(r, at) for at in LAYERS], total)),
        _arm("PLNE", "plne, layer 0", _sized(lambda rows: [_plne(rows, 0)], total)),
        _arm("PLNE", "plne, layer 1", _sized(lambda rows: [_plne(rows, 1)], total)),
    ]


def design_of(*specs: NgramSpec) -> Design:
    """On shortcut blocks."""
    return on_backbone(*specs, backbone=SHORTCUT)


def _input(rows: int) -> NgramSpec:
    sizes = clean_rows(MAX_ORDER, NUM_SUBTABLES, rows)
    return tables(MAX_ORDER, NUM_SUBTABLES, sizes)


def _plne(rows: int, layer: int) -> NgramSpec:
    return replace(_input(rows), placement="plne", layers=(layer,))


def _ple(layer: int) -> NgramSpec:
    return replace(
        tables(2, 1, VOCAB_SIZE),
        table_orders=(1,),
        fusion="added",
        word_scale="none",
        placement="ple",
        layers=(layer,),
    )


def _sized(specs: Callable[[int], list[NgramSpec]], total: int) -> Design:
    """With as many rows a table as bring it nearest to ``total`` parameters."""
    few, more = 4_000, 5_000
    at_few = total_parameters(design_of(*specs(few)))
    a_row = (total_parameters(design_of(*specs(more))) - at_few) / (more - few)
    return design_of(*specs(few + round((total - at_few) / a_row)))


def _arm(pairing: str, placement: str, design: Design) -> Arm:
    return Arm(
        name=f"{pairing}: {placement}",
        design=design,
        facts={"pairing": pairing, "placement": placement},
        family=pairing,
    )


def _pairs(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Each placement against input tables of its own total."""
    return [
        (arm.name, f"{arm.facts['pairing']}: input")
        for arm in arms
        if arm.facts["placement"] != "input"
    ]


def _answer(found: Found) -> str:
    parts = [
        f"{item['arm'].split(': ')[1]} {item['mean_difference']:+.4f} ({item['verdict']})"
        for item in found.comparisons
    ]
    return (
        "Held-out loss less that of input tables of as many parameters, nats/token: "
        f"{'; '.join(parts)}."
    )


EXPERIMENT = Experiment(
    slug="2026-11-22-e5-placement",
    title="E5: where the rows go in",
    published=(
        "arXiv:2601.21204, Fig. 9 (790M active, 10B and 12B parameters): PLE is worse than input "
        "tables, PLNE marginally better, not so at more width or depth, and was not adopted. "
        "Whether PLNE should be uniform or concentrated is the paper's open question."
    ),
    arms=arms,
    pairs=_pairs,
    columns={"pairing": "pairing", "placement": "placement"},
    answer=_answer,
    figures=lambda found: (difference_figure(found, "differences", "Against input tables"),),
)
