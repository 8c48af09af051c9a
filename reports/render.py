"""Render every committed report again from its record.json, after a change of the rendering.

python -m reports.render
"""

import json
from pathlib import Path

from ngscale import budget
from ngscale.audit import summary as audit_summary
from ngscale.cache import summary as cache_summary
from ngscale.collisions import hit_rate, recommend, summary
from ngscale.plan import pages as plan_pages
from ngscale.records import Report, RunRecord, read_record
from ngscale.report import write_report
from reports import adaptive_sweep, decode_seeds, extrapolation, lattice_score, robustness_report

ROOT = Path(__file__).parent


def directories() -> list[Path]:
    """Every committed report."""
    return sorted(path.parent for path in ROOT.glob("*/record.json"))


def build_report(record: RunRecord) -> Report:
    """What the record's verb makes of it."""
    if record.verb == "collisions":
        if "hit_rates" in record.results:
            return hit_rate.build_report(record)
        if "proposals" in record.results:
            return recommend.build_report(record)
        return summary.build_report(record)
    if record.verb == "audit":
        if "audits" in record.results:
            return audit_summary.combined_report(record)
        return audit_summary.build_report(record)
    if record.verb == "budget":
        return budget.report(record)
    if record.verb == "plan":
        return plan_pages.build_report(record)
    if record.verb == "cache":
        return cache_summary.build_report(record)
    if record.verb == "lattice-score":
        return lattice_score.build_report(record)
    if record.verb == "adaptive-sweep":
        return adaptive_sweep.build_report(record)
    if record.verb == "robustness":
        return robustness_report.build_report(record)
    if record.verb == "extrapolation":
        return extrapolation.build_report(record)
    if record.verb == "train-small":  # torch, which only these need
        from ngscale.train_small import summary as train_summary

        return train_summary.build_report(record)
    if record.verb == "probe":
        from ngscale.probe import norms_report, series_report, table_report

        if "tables" in record.results:
            return table_report.build_report(record)
        if "series" in record.results:
            return series_report.build_report(record)
        return norms_report.build_report(record)
    if record.verb == "decode":
        from ngscale.decode import isolation_report
        from ngscale.decode import summary as decode_summary

        if "steps" in record.results:
            return isolation_report.build_report(record)
        return decode_summary.build_report(record)
    if record.verb == "decode-seeds":
        return decode_seeds.build_report(record)
    if record.verb == "experiment":  # torch too
        from reports.experiments.registry import EXPERIMENTS
        from reports.experiments.report import build_report as experiment_report

        return experiment_report(record, EXPERIMENTS[record.inputs["experiment"]])
    raise AssertionError(f"no renderer for {record.verb}")


def main() -> None:
    """Write all of them anew; records, environments and Parquet stay what they are."""
    for directory in directories():
        record = read_record(directory / "record.json")
        report = build_report(record)
        environment = json.loads((directory / "environment.json").read_text())
        for old in [
            *directory.glob("data/*.csv"),
            *directory.glob("configs/*"),
            *directory.glob("figures/*"),
        ]:
            old.unlink()
        write_report(report, record, environment, directory)


if __name__ == "__main__":
    main()
