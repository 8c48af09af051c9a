"""The experiments by name."""

from reports.experiments import e1, e2, e3, e4, e5, e6

EXPERIMENTS = {
    "e1": e1.EXPERIMENT,
    "e2": e2.EXPERIMENT,
    "e3": e3.EXPERIMENT,
    "e4": e4.EXPERIMENT,
    "e5": e5.EXPERIMENT,
    "e6": e6.EXPERIMENT,
}
