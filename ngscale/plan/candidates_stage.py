"""Stage 3: the frontier of the total, and a few designs on it."""

from dataclasses import asdict
from pathlib import Path

from ngscale.budget.limits import Limits
from ngscale.design import Design
from ngscale.plan.request import Request
from ngscale.plan.stages import Made, Stage

NAME = "3-candidates"
UNKNOWN = (
    "Which other shares of the total in tables fit the limits, and what evidence says of them."
)


def candidates_stage(request: Request, design: Design, limits: Limits) -> Stage:
    """``ngscale budget TARGET --total ...``."""

    def make(directory: Path) -> Made:
        del directory
        from ngscale import budget

        record = budget.build(
            design,
            target=request.target.name,
            config_sha256=request.target.sha256,
            dtype=limits.dtype,
            limits=limits,
        )
        return Made(record=record, report=budget.report(record))

    options = {
        "--total": limits.total_parameters,
        "--hbm": limits.hbm_bytes,
        "--host-memory": limits.host_bytes,
    }
    given = [part for key, value in options.items() if value for part in (key, str(value))]
    return Stage(
        name=NAME,
        inputs={
            "target": request.target.name,
            "config_sha256": request.target.sha256,
            "limits": asdict(limits),
        },
        make=make,
        argv=("budget", request.named, *given),
    )
