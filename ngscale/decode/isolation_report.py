"""What a step's time is spent on -> record and report."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.decode.isolation import PARTS
from ngscale.decode.isolation_run import DESIGN, MOE, PLACEBO, Request, Timed, results
from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table

_OF_TABLES = ("ids", "gather", "fusion")


def build_record(
    rounds: Sequence[Sequence[Timed]], request: Request, target: str, inputs: Mapping[str, Any]
) -> RunRecord:
    """Times are of this machine: the record of another run has other digits."""
    found = results(rounds, request)
    return RunRecord(
        verb="decode",
        answer=_answer(found, request, target),
        inputs={
            **inputs,
            "target": target,
            "batches": list(request.batches),
            "context_tokens": request.context,
            "draft_length": request.draft_length,
            "rounds": request.rounds,
            "min_seconds": request.min_seconds,
            "dtype": str(request.dtype).removeprefix("torch."),
            "device": request.device.type,
        },
        results=found,
    )


def _answer(found: Mapping[str, Any], request: Request, target: str) -> str:
    low, high = min(request.batches), max(request.batches)
    told = []
    for batch in dict.fromkeys((low, high)):
        step = {model: _step(found, model, batch) for model in (DESIGN, MOE, PLACEBO)}
        tables = sum(one["share"] for one in step[DESIGN]["parts"] if one["part"] in _OF_TABLES)
        told.append(
            f"at batch {batch} a step takes {_ms(step[DESIGN])}, {tables:.0%} of it for ids, rows "
            f"and their projection; the MoE of as many parameters takes {_times(step[MOE])} as "
            f"long, tables of one row {_times(step[PLACEBO])}"
        )
    where = "a CPU" if request.device.type == "cpu" else request.device.type
    return f"{target} on {where}, {str(request.dtype).removeprefix('torch.')}: {'; '.join(told)}."


def _step(found: Mapping[str, Any], model: str, batch: int) -> Mapping[str, Any]:
    steps: Sequence[Mapping[str, Any]] = found["steps"]
    return next(
        one for one in steps if (one["model"], one["batch"], one["num_tokens"]) == (model, batch, 1)
    )


def _ms(step: Mapping[str, Any]) -> str:
    return f"{step['step_us'] / 1000:.3g} ms"


def _times(step: Mapping[str, Any]) -> str:
    return f"{step['of_design']:.2f} ({step['of_design_low']:.2f} to {step['of_design_high']:.2f})"


def build_report(record: RunRecord) -> Report:
    """Parts by batch, what drafting must bring, the switches."""
    found = record.results
    single = [step for step in found["steps"] if step["num_tokens"] == 1]
    rows = [
        {
            "model": step["model"],
            "batch": step["batch"],
            "step_us": step["step_us"],
            "tokens_per_s": step["tokens_per_s"],
            **{part["part"]: part["us"] for part in step["parts"]},
        }
        for step in single
    ]
    traffic = [
        {
            "model": step["model"],
            "batch": step["batch"],
            **{part["part"]: part["bytes"] for part in step["parts"]},
        }
        for step in single
    ]
    at = (Column(key="model", title="model"), Column(key="batch", title="batch", spec="d"))
    return Report(
        title="What a decoding step is spent on",
        answer=record.answer,
        sections=(
            Section(
                heading="One token of each sequence",
                paragraphs=tuple(
                    f"{one['model']}: {one['total_parameters']:,} parameters, "
                    f"{one['active_parameters']:,} active at most."
                    for one in found["models"]
                ),
                figures=(_figure(single),),
                tables=(
                    Table(
                        name="parts",
                        title="Microseconds, medians",
                        columns=(
                            *at,
                            Column(key="step_us", title="step", spec=",.0f"),
                            Column(key="tokens_per_s", title="tokens/s", spec=",.0f"),
                            *(Column(key=name, title=name, spec=",.0f") for name in PARTS),
                        ),
                        rows=rows,
                    ),
                    Table(
                        name="ratios",
                        title=f"A step's time, the design's being 1; ranges are of "
                        f"{record.inputs['rounds']} rounds",
                        columns=(
                            *at,
                            Column(key="of_design", title="ratio", spec=".3f"),
                            Column(key="of_design_low", title="from", spec=".3f"),
                            Column(key="of_design_high", title="to", spec=".3f"),
                        ),
                        rows=[step for step in single if step["model"] != DESIGN],
                    ),
                    Table(
                        name="bytes",
                        title="Bytes a step has to read, each once",
                        columns=(
                            *at,
                            *(Column(key=name, title=name, spec=",d") for name in PARTS[:-1]),
                        ),
                        rows=traffic,
                    ),
                ),
            ),
            Section(
                heading="Switched on and off, one by one",
                paragraphs=(_SWITCHES,),
                tables=(
                    Table(
                        name="drafting",
                        title="Tokens a verification must bring for drafting to pay",
                        columns=(
                            *at,
                            Column(key="step_us", title="1 token, us", spec=",.0f"),
                            Column(
                                key="verify_us",
                                title=f"{record.inputs['draft_length'] + 1} tokens, us",
                                spec=",.0f",
                            ),
                            Column(key="break_even_tokens", title="breaks even at", spec=".2f"),
                            Column(key="break_even_tokens_low", title="from", spec=".2f"),
                            Column(key="break_even_tokens_high", title="to", spec=".2f"),
                        ),
                        rows=found["drafting"],
                    ),
                    Table(
                        name="switches",
                        title="The input embedding of the tokens verified, microseconds",
                        columns=(
                            at[1],
                            Column(key="fused_us", title="one product", spec=",.0f"),
                            Column(key="table_by_table_us", title="table by table", spec=",.0f"),
                            Column(key="kept_us", title="N-gram Cache", spec=",.0f"),
                            Column(key="step_us", title="whole step", spec=",.0f"),
                        ),
                        rows=found["switches"],
                    ),
                ),
            ),
            Section(heading="How to read this", paragraphs=(_HOW_TO_READ, _CANNOT_SAY)),
        ),
    )


def _figure(steps: Sequence[Mapping[str, Any]]) -> Figure:
    speed, share = [], []
    for model in dict.fromkeys(step["model"] for step in steps):
        own = [step for step in steps if step["model"] == model]
        batches = [step["batch"] for step in own]
        speed.append(Series(label=model, x=batches, y=[step["tokens_per_s"] for step in own]))
        if model == MOE:
            continue
        of_tables = [
            sum(part["share"] for part in step["parts"] if part["part"] in _OF_TABLES)
            for step in own
        ]
        share.append(Series(label=model, x=batches, y=of_tables))
    panels = (
        Panel(
            title="Speed",
            x_label="batch",
            y_label="tokens/s",
            series=tuple(speed),
            x_log=True,
            y_log=True,
        ),
        Panel(
            title="Ids, rows and their projection",
            x_label="batch",
            y_label="share of a step",
            series=tuple(share),
            x_log=True,
        ),
    )
    return Figure(name="isolation", caption="One token of each sequence", panels=panels)


_SWITCHES = (
    "Drafting: a verification reads the draft's tokens at once; it pays where it brings more "
    "tokens than the ratio of the two times, drafts being free. One product: the projections of "
    "all tables as one matrix; table by table is what the released code does. N-gram Cache: the "
    "embeddings that drafting left on the device are taken as they are."
)
_HOW_TO_READ = (
    "Every model has the same backbone and text, and weights as they are initialised, whose "
    "experts are chosen about evenly. The models are measured in turn, round by round: times are "
    "medians of the rounds, ratios are taken within a round. A part is timed alone on its inputs "
    "of a real step, so what it reads lies in caches where it fits; `rest` is the step less the "
    "parts: norms, additions, calls. The gather less that of capacity 1 is what far-apart rows "
    "cost; the experts of the MoE less those of the n-gram model are what more experts cost. "
    "Bytes are counted from shapes, rows and experts read."
)
_CANNOT_SAY = (
    "What this cannot say: what another stack would take. On a CPU our experts are multiplied one "
    "after the other, calls cost microseconds each, and nothing here is a fused GPU kernel. Times "
    "are of one machine."
)
