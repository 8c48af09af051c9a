"""Stage 1: what is wrong with the tables in use, by arithmetic."""

from pathlib import Path

from ngscale.plan.request import Request
from ngscale.plan.stages import Made, Stage

NAME = "1-audit"
UNKNOWN = "Whether the table sizes in use are sound."


def audit_stage(request: Request) -> Stage:
    """``ngscale audit TARGET``."""

    def make(directory: Path) -> Made:
        del directory
        from ngscale.audit.outcome import audit
        from ngscale.audit.subject import Subject
        from ngscale.audit.summary import build_report

        record = audit(Subject.read(request.target.path, request.target.name))
        return Made(record=record, report=build_report(record))

    return Stage(
        name=NAME,
        inputs={"target": request.target.name, "config_sha256": request.target.sha256},
        make=make,
        argv=("audit", request.named),
    )
