"""E6, capacity: N = K = 4 with 1, 100, .., all rows a table, and no tables at all.

"A capacity of 1 works as well" would say that projections and the scale of the word embedding, not
rows, give the gain.
"""

from ngscale.design import Design
from reports.experiments.outcome import Experiment, Found
from reports.experiments.report import difference_figure
from reports.experiments.scale import ROWS, Arm, clean_rows, design_of, tables

CAPACITIES = (1, 100, 1_000, 5_000, ROWS)


def arms() -> list[Arm]:
    """Unequal parameters: they are what the rows are."""
    base = Design(model=design_of().model)
    found = [Arm(name="no tables", design=base, facts={"rows": 0})]
    for rows in CAPACITIES:
        sizes = rows if rows < 5_000 else clean_rows(4, 4, rows)
        found.append(
            Arm(name=f"{rows} rows", design=design_of(tables(4, 4, sizes)), facts={"rows": rows})
        )
    return found


def _answer(found: Found) -> str:
    parts = [
        f"{item['arm']} {item['mean_difference']:+.4f} ({item['verdict']})"
        for item in found.comparisons
    ]
    return f"Held-out loss less that without tables, nats/token: {'; '.join(parts)}."


EXPERIMENT = Experiment(
    slug="2026-11-22-e6-capacity",
    title="E6: capacity of the tables",
    published=(
        "That tables of capacity 1 work as well as full ones is a claim about other designs (see "
        "docs/method.md); under average fusion a table of one row adds one constant vector."
    ),
    arms=arms,
    pairs=lambda arms: [(arm.name, "no tables") for arm in arms[1:]],
    columns={"rows": "rows a table"},
    answer=_answer,
    figures=lambda found: (difference_figure(found, "differences", "Against no tables"),),
)
