"""The lattice score of many sizes at once, beside NumPy size by size, in one run.

Sizes are neighbours from 30 x V0 on, V0 = 131,072. Both are asserted equal on a seeded draw of
sizes. Printed: seconds for all sizes at each order (processor and wall), microseconds per size, and
the ratio to NumPy. Compilation is left out: it is cached on disk.

    python benchmarks/lattice_score.py
    python benchmarks/lattice_score.py --orders 2,3,4 --sizes 400000
"""

import argparse
import time

import numpy as np

from ngscale.lattice_score import lattice_score, lattice_scores

VOCAB_SIZE = 131_072
CHECKED = 200


def main() -> None:
    """Time every order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=400_000)
    parser.add_argument("--orders", default="2")
    given = parser.parse_args()
    sizes = range(30 * VOCAB_SIZE, 30 * VOCAB_SIZE + given.sizes)
    checked = np.random.default_rng(0).choice(given.sizes, CHECKED, replace=False)
    for order in map(int, given.orders.split(",")):
        lattice_scores(sizes[:2], VOCAB_SIZE, order)
        wall, processor = time.perf_counter(), time.process_time()
        scores = lattice_scores(sizes, VOCAB_SIZE, order)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        numpy_wall = time.perf_counter()
        ours = [lattice_score(sizes[at], VOCAB_SIZE, order) for at in checked.tolist()]
        numpy_wall = (time.perf_counter() - numpy_wall) / CHECKED
        np.testing.assert_allclose(ours, scores[checked], rtol=1e-9)
        print(
            f"order {order}: {given.sizes:,} sizes in {wall:.2f} s ({processor:.2f} s processor), "
            f"{wall / given.sizes * 1e6:.1f} us a size; NumPy {numpy_wall * 1e6:.0f} us a size, "
            f"{numpy_wall * given.sizes / wall:.0f} times"
        )


if __name__ == "__main__":
    main()
