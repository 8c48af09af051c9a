"""Records of ``ngscale decode`` over seeds of one design -> means with intervals over seeds.

python -m reports.decode_seeds --out reports/<date>-decode-<slug> RECORD_DIR RECORD_DIR RECORD_DIR

Each RECORD_DIR is an --out of ``ngscale decode`` with the same options on a checkpoint of another
seed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ngscale.records import (
    Column,
    Figure,
    Panel,
    Report,
    RunRecord,
    Section,
    Series,
    Table,
    environment,
    read_record,
)

_DRAFT_VALUES = (
    "tokens_per_verification",
    "acceptance_length",
    "acceptance_rate",
    "ms_per_token",
    "processor_ms_per_token",
    "embedded_per_token",
)
_REJECTION_VALUES = ("auc", "saved_frac", "lost_frac", "acceptance_length", "ms_ratio")
_SAME = ("draft_lengths", "prompt_tokens", "num_sequences", "setting", "texts", "dtype", "device")
"""Inputs that all records share."""


def combine(records: Sequence[RunRecord]) -> RunRecord:
    """Means and 95% t-intervals over seeds; the answer names the best drafter.

    Raises:
        ValueError: fewer than two records, or they were not made with the same options.
    """
    if len(records) < 2:
        raise ValueError("an interval over seeds needs two records or more")
    for key in _SAME:
        if any(record.inputs[key] != records[0].inputs[key] for record in records):
            raise ValueError(f"{key}: the records were made with different ones")
    drafts = _summed(
        [record.results["drafts"] for record in records],
        ("text", "draft", "draft_length"),
        _DRAFT_VALUES,
    )
    rejection = _summed(
        [
            [
                {"text": text["text"], **row, "ms_ratio": _ratio(row)}
                for text in record.results["rejection"]
                for row in text["rejectors"]
            ]
            for record in records
        ],
        ("text", "score"),
        _REJECTION_VALUES,
    )
    results = {
        "num_seeds": len(records),
        "drafts": drafts,
        "rejection": rejection,
        "all_exact": all(
            all(record.results["exact"]["equal"].values())
            for record in records
            if record.results["exact"] is not None
        ),
        "answers": [record.answer for record in records],
    }
    inputs = {
        "models": [record.inputs["model"] for record in records],
        **{key: records[0].inputs[key] for key in _SAME},
    }
    return RunRecord(verb="decode-seeds", answer=_sentence(results), inputs=inputs, results=results)


def _ratio(row: Mapping[str, Any]) -> float:
    """By the processor's time: other work beside moves the clock's."""
    ratio: float = row["processor_ms_per_token"] / row["plain_processor_ms_per_token"]
    return ratio


def _summed(
    of_seeds: Sequence[Sequence[Mapping[str, Any]]], keys: tuple[str, ...], values: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Row by row of the first record."""
    rows = []
    for first in of_seeds[0]:
        key = [first[name] for name in keys]
        same = [row for rows in of_seeds for row in rows if [row[name] for name in keys] == key]
        assert len(same) == len(of_seeds), key
        out = dict(zip(keys, key, strict=True))
        for value in values:
            found = [row[value] for row in same]
            if any(one is None for one in found):
                continue
            mean, half = _interval(found)
            out |= {value: mean, f"{value}_low": mean - half, f"{value}_high": mean + half}
        rows.append(out)
    return rows


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of the 95% t-interval."""
    n = len(values)
    sd = float(np.std(values, ddof=1))
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1)) * sd / n**0.5


def _sentence(results: Mapping[str, Any]) -> str:
    drafted = [row for row in results["drafts"] if row["draft"] == "table"]
    best = max(drafted, key=lambda row: row["tokens_per_verification"])
    parts = [
        f"Over {results['num_seeds']} seeds, table drafts of length {best['draft_length']} on "
        f"{best['text']} give {best['tokens_per_verification']:.2f} tokens per verification "
        f"({best['tokens_per_verification_low']:.2f} to "
        f"{best['tokens_per_verification_high']:.2f})"
    ]
    scored = [
        row
        for row in results["rejection"]
        if "auc" in row and row["score"] not in ("random", "entropy")
    ]
    if scored:
        row = max(scored, key=lambda row: row["auc"])
        parts.append(
            f"early rejection by {row['score']} has an AUC of {row['auc']:.3f} "
            f"({row['auc_low']:.3f} to {row['auc_high']:.3f}) and leaves out "
            f"{row['saved_frac']:.0%} of drafted tokens for {row['lost_frac']:.1%} of accepted ones"
        )
    return "; ".join(parts) + "."


def build_report(record: RunRecord) -> Report:
    """Both questions, with intervals over seeds."""
    sections = [
        Section(
            heading="Can n-gram rows draft tokens?",
            paragraphs=(
                f"Means over {record.results['num_seeds']} seeds, with 95% t-intervals over them. "
                "Greedy output was that of full passes, bit for bit, in all runs: "
                + ("yes." if record.results["all_exact"] else "NO."),
            ),
            figures=_figures(record.results["drafts"]),
            tables=(
                _table(
                    "drafts",
                    "Drafts",
                    ("text", "draft", "draft_length"),
                    _DRAFT_VALUES,
                    record.results["drafts"],
                ),
            ),
        )
    ]
    if record.results["rejection"]:
        sections.append(
            Section(
                heading="Can they reject drafts early?",
                paragraphs=(
                    "Thresholds from other prompts, for 5% of accepted tokens. ms_ratio: "
                    "processor time per token with rejection over that without.",
                ),
                tables=(
                    _table(
                        "rejection",
                        "Early rejection of table drafts",
                        ("text", "score"),
                        _REJECTION_VALUES,
                        record.results["rejection"],
                    ),
                ),
            )
        )
    sections.append(Section(heading="Run by run", paragraphs=tuple(record.results["answers"])))
    return Report(
        title="Decoding with drafts, over seeds", answer=record.answer, sections=tuple(sections)
    )


def _table(
    name: str,
    title: str,
    keys: tuple[str, ...],
    values: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
) -> Table:
    columns = [Column(key=key, title=key.replace("_", " ")) for key in keys]
    for value in values:
        columns.append(Column(key=value, title=value.replace("_", " "), spec=".3f"))
        columns += [Column(key=f"{value}_{end}", title=end, spec=".3f") for end in ("low", "high")]
    return Table(name=name, title=title, columns=tuple(columns), rows=rows)


def _figures(rows: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    key = "tokens_per_verification"
    names = [
        name
        for name in dict.fromkeys(row["draft"] for row in rows if row["draft_length"])
        if "," not in name
    ]
    panels = []
    for text in dict.fromkeys(row["text"] for row in rows):
        series = []
        for name in names:
            mine = [row for row in rows if (row["text"], row["draft"]) == (text, name)]
            series.append(
                Series(
                    label=name,
                    x=[row["draft_length"] for row in mine],
                    y=[row[key] for row in mine],
                    low=[row[f"{key}_low"] for row in mine],
                    high=[row[f"{key}_high"] for row in mine],
                )
            )
        panels.append(
            Panel(
                title=text,
                x_label="draft length",
                y_label="tokens per verification",
                series=tuple(series),
            )
        )
    return (
        Figure(
            name="tokens-per-verification",
            caption="Tokens gained by one pass of the model; 1 without drafts.",
            panels=tuple(panels),
        ),
    )


def main() -> None:
    """Combine and write the report."""
    from ngscale.report import write_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD_DIR")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record = combine([read_record(path / "record.json") for path in given.records])
    made = {"program": ["python", "-m", "reports.decode_seeds"], **environment(sys.argv[1:])}
    write_report(build_report(record), record, made, given.out)
    print(record.answer)


if __name__ == "__main__":
    main()
