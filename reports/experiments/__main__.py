"""``run`` trains the cells of experiments that are missing, ``report`` writes what they found."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch, as train_small/threads.py

from ngscale.console import say
from ngscale.errors import NgscaleError
from ngscale.records import environment
from ngscale.report import write_report
from reports.experiments import cells, e2, sharing
from reports.experiments.outcome import make_record
from reports.experiments.registry import EXPERIMENTS
from reports.experiments.report import build_report

NUM_SEEDS = 3
REPORTS = Path(__file__).parent.parent


def main() -> int:
    """Of the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reports.experiments", description=__doc__)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("names", nargs="+", choices=sorted(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, default=NUM_SEEDS)
    parser.add_argument("--out", type=Path, help="of a report; one experiment at a time")
    options = parser.parse_args()
    try:
        if options.command == "run":
            arms = [(name, arm) for name in options.names for arm in EXPERIMENTS[name].arms()]
            if "e2" in options.names:
                sharing.measure_missing(e2.arms())
            cells.run(arms, range(options.seeds))
            return 0
        return max(_report(name, options) for name in options.names)
    except NgscaleError as error:
        say(str(error))
        return error.exit_code


def _report(name: str, options: argparse.Namespace) -> int:
    experiment = EXPERIMENTS[name]
    record = make_record(name, experiment, options.seeds)
    if record is None:
        say(f"{name}: no seed has all its cells; python -m reports.experiments run {name}")
        return 9
    made = {"program": ["python", "-m", "reports.experiments"], **environment(sys.argv[1:])}
    out = options.out or REPORTS / experiment.slug
    write_report(build_report(record, experiment), record, made, out)
    say(record.answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
