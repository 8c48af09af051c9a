"""``run`` trains the missing cells of experiments, ``report`` writes an experiment's report."""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch, as in commands/train_small.py

from reports.experiments import cells, e1, e2, e3, e4, e5, e6

EXPERIMENTS = {"e1": e1, "e2": e2, "e3": e3, "e4": e4, "e5": e5, "e6": e6}


def main() -> None:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="python -m reports.experiments", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("names", nargs="+", choices=sorted(EXPERIMENTS))
    run.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    arms = [(name, arm) for name in options.names for arm in EXPERIMENTS[name].arms()]
    cells.run(arms, range(options.seeds))


if __name__ == "__main__":
    main()
