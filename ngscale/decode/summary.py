"""The record of ``decode`` -> what a person reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from ngscale.records import Column, Figure, Panel, Report, RunRecord, Section, Series, Table

WITHOUT_CACHE = "table, no N-gram Cache"
"""The drafter's name where its tokens are embedded again to be verified."""
_METHOD = (
    "A verification is one pass of the model over the last token and a draft behind it; each "
    "sequence gains the drafted tokens that stand and one of the model's own. Prompts are held-out "
    "text. Intervals are 95%, by drawing sequences again.",
    "Greedy drafts stand up to the first token that is not the likeliest; sampled ones by "
    "speculative sampling (Leviathan et al. 2023, arXiv:2211.17192), which keeps the distribution.",
    "Times are of this machine, and of all sequences of a batch together; where other work runs "
    "beside, the processor's time tells more than the clock's (all threads, CPU alone).",
)
_REJECTION = (
    "A score drops a drafted token, and all behind it, before verification. Its threshold loses no "
    "more than the target share of accepted tokens on calibration prompts; all numbers are of "
    "other prompts. AUC: the chance that a token that stands scores higher than one that falls, "
    "ties counting half. head: the table head's probability; margin: between its two likeliest "
    "tokens; rows: the norm of the n-gram rows that the token looks up; trained: the share of them "
    "that is not zero; entropy: the drafter's own, and random: to compare with.",
)


def build_report(record: RunRecord) -> Report:
    """Drafts, losslessness, early rejection."""
    results = record.results
    sections = [
        Section(
            heading="What do drafts give?",
            paragraphs=_METHOD,
            figures=_draft_figures(results["drafts"]),
            tables=(_draft_table(results["drafts"]), _position_table(results["drafts"])),
        ),
        Section(
            heading="Is the output the same?",
            paragraphs=_exact_paragraphs(results),
            tables=(_equal_table(results),),
        ),
    ]
    if results["rejection"]:
        sections.append(
            Section(
                heading="Can n-gram rows reject drafts early?",
                paragraphs=_REJECTION,
                figures=(_roc_figure(results["rejection"]),),
                tables=(_rejection_table(results["rejection"]),),
            )
        )
    return Report(title="Decoding with drafts", answer=record.answer, sections=tuple(sections))


def _draft_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="drafts",
        title="Drafts by text, drafter and length",
        columns=(
            Column(key="text", title="text"),
            Column(key="draft", title="draft"),
            Column(key="draft_length", title="length"),
            Column(key="tokens_per_verification", title="tokens per verification", spec=".3f"),
            Column(key="low", title="95% low", spec=".3f"),
            Column(key="high", title="95% high", spec=".3f"),
            Column(key="acceptance_length", title="acceptance length", spec=".3f"),
            Column(key="acceptance_rate", title="accepted of drafted", spec=".3f"),
            Column(key="ms_per_token", title="ms per token", spec=".3f"),
            Column(key="processor_ms_per_token", title="of processor", spec=".3f"),
            Column(key="embedded_per_token", title="tokens embedded per token", spec=".3f"),
            Column(key="reused_per_token", title="of those verified, cached", spec=".3f"),
            Column(key="num_sequences", title="sequences"),
        ),
        rows=rows,
    )


def _position_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    flat = [
        {
            "text": row["text"],
            "draft": row["draft"],
            "draft_length": row["draft_length"],
            "position": i + 1,
            "rate": rate,
        }
        for row in rows
        for i, rate in enumerate(row["rate_by_position"])
    ]
    return Table(
        name="positions",
        title="Acceptance by position, of drafts whose tokens before it stood",
        columns=(
            Column(key="text", title="text"),
            Column(key="draft", title="draft"),
            Column(key="draft_length", title="length"),
            Column(key="position", title="position"),
            Column(key="rate", title="accepted", spec=".3f"),
        ),
        rows=flat,
        terminal=False,
    )


def _draft_figures(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    texts = list(dict.fromkeys(row["text"] for row in rows))
    drafted = [row for row in rows if row["draft_length"] and row["draft"] != WITHOUT_CACHE]
    if not drafted:
        return ()

    def series(text: str, key: str) -> tuple[Series, ...]:
        names = list(dict.fromkeys(row["draft"] for row in drafted))
        found = []
        for name in names:
            mine = [row for row in drafted if row["draft"] == name and row["text"] == text]
            is_interval = key == "tokens_per_verification"
            found.append(
                Series(
                    label=name,
                    x=[row["draft_length"] for row in mine],
                    y=[row[key] for row in mine],
                    low=[row["low"] for row in mine] if is_interval else None,
                    high=[row["high"] for row in mine] if is_interval else None,
                )
            )
        return tuple(found)

    return tuple(
        Figure(
            name=name,
            caption=caption,
            panels=tuple(
                Panel(title=text, x_label="draft length", y_label=label, series=series(text, key))
                for text in texts
            ),
        )
        for name, key, label, caption in (
            (
                "tokens-per-verification",
                "tokens_per_verification",
                "tokens per verification",
                "Tokens gained by one pass of the model; 1 without drafts.",
            ),
            ("latency", "ms_per_token", "ms per token", "Time for a token, drafts included."),
        )
    )


def _exact_paragraphs(results: Mapping[str, Any]) -> tuple[str, ...]:
    exact, head = results["exact"], results["head"]
    found = []
    if exact is None:
        found.append("Bit-equality is checked on a CPU in float32 or float64 alone.")
    else:
        found.append(
            "In the row-invariant mode greedy tokens are the likeliest of one pass over the whole "
            "sequence, bit for bit: "
            + ", ".join(
                f"{name} {'yes' if same else 'NO'}" for name, same in exact["equal"].items()
            )
            + f". A pass over a prompt takes {exact['row_invariant_ms']:.1f} ms in that mode, "
            f"{exact['plain_ms']:.1f} ms otherwise."
        )
    found.append(
        "Otherwise a matrix product rounds by its number of rows: sequences may part where two "
        "tokens are as good as equally likely."
    )
    if head is not None:
        found.append(
            f"The table head has {head['num_parameters']:,} parameters and a held-out loss of "
            f"{head['loss_nats']:.3f} nats."
        )
    return tuple(found)


def _equal_table(results: Mapping[str, Any]) -> Table:
    differences = {one["text"]: one["largest_logit_difference"] for one in results["texts"]}
    return Table(
        name="equality",
        title="Sequences whose tokens are those without drafts (of sampled ones only the "
        "distribution is the same)",
        columns=(
            Column(key="text", title="text"),
            Column(key="draft", title="draft"),
            Column(key="draft_length", title="length"),
            Column(key="sequences_equal", title="equal"),
            Column(key="num_sequences", title="of"),
            Column(key="difference", title="largest logit difference, step and pass", spec=".2g"),
        ),
        rows=[
            {**row, "difference": differences[row["text"]]}
            for row in results["drafts"]
            if row["draft"] != "none"
        ],
        terminal=False,
    )


def _rejection_table(texts: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        name="rejection",
        title="Early rejection of table drafts, thresholds from other prompts",
        columns=(
            Column(key="text", title="text"),
            Column(key="score", title="score"),
            Column(key="auc", title="AUC", spec=".3f"),
            Column(key="auc_low", title="95% low", spec=".3f"),
            Column(key="auc_high", title="95% high", spec=".3f"),
            Column(key="saved_frac", title="drafted tokens left out", spec=".1%"),
            Column(key="lost_frac", title="accepted lost", spec=".1%"),
            Column(key="acceptance_length", title="acceptance length", spec=".3f"),
            Column(key="plain_acceptance_length", title="without", spec=".3f"),
            Column(key="ms_per_token", title="ms per token", spec=".3f"),
            Column(key="plain_ms_per_token", title="without", spec=".3f"),
            Column(key="processor_ms_per_token", title="of processor", spec=".3f"),
            Column(key="plain_processor_ms_per_token", title="without", spec=".3f"),
            Column(key="sequences_equal", title="equal"),
            Column(key="num_sequences", title="of"),
            Column(key="threshold", title="threshold", spec=".4g"),
        ),
        rows=[{"text": text["text"], **row} for text in texts for row in text["rejectors"]],
    )


def _roc_figure(texts: Sequence[Mapping[str, Any]]) -> Figure:
    return Figure(
        name="roc",
        caption="Drafted tokens that are let through: of those that fall, and of those that stand.",
        panels=tuple(
            Panel(
                title=text["text"],
                x_label="falling, let through",
                y_label="standing, let through",
                series=tuple(
                    Series(
                        label=row["score"],
                        x=[point[0] for point in row["roc"]],
                        y=[point[1] for point in row["roc"]],
                        style="dashed" if row["score"] in ("random", "entropy") else "line",
                    )
                    for row in text["rejectors"]
                ),
            )
            for text in texts
        ),
    )
