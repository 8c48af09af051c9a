"""E4, orders and sub-tables: the N and K of the paper's Fig. 4, and LongCat-Flash-Lite's N = K = 4."""

from reports.experiments.scale import Arm, clean_rows, design_of, tables

SHAPES = ((2, 1), (2, 4), (3, 3), (4, 4), (5, 3), (7, 2), (7, 4))


def arms() -> list[Arm]:
    """Equal table parameters, at clean sizes."""
    return [
        Arm(
            name=f"N{n}-K{k}",
            design=design_of(tables(n, k, clean_rows(n, k))),
            facts={"N": n, "K": k, "tables": (n - 1) * k},
        )
        for n, k in SHAPES
    ]
