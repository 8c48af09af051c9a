"""E6, capacity: N = K = 4 with 1, 100, .., all rows a table, and no tables at all.

"A capacity of 1 works as well" would say that projections and the scale of the word embedding, not
rows, give the gain.
"""

from ngscale.design import Design
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
