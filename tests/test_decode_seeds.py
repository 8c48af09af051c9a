"""Means over seeds of decode's records."""

from typing import Any

import pytest

from ngscale.records import RunRecord
from reports.decode_seeds import build_report, combine


def record(tokens: float, *, prompt_tokens: int = 64) -> RunRecord:
    draft = {
        "text": "novel",
        "draft": "table",
        "draft_length": 2,
        "tokens_per_verification": tokens,
        "acceptance_length": tokens - 1,
        "acceptance_rate": None,
        "ms_per_token": 1.0,
        "processor_ms_per_token": 1.0,
        "embedded_per_token": 1.0,
    }
    rejector = {
        "score": "rows",
        "auc": 0.8,
        "saved_frac": 0.3,
        "lost_frac": 0.05,
        "acceptance_length": 1.0,
        "processor_ms_per_token": 2.0,
        "plain_processor_ms_per_token": 4.0,
    }
    inputs: dict[str, Any] = dict.fromkeys(("draft_lengths", "num_sequences", "setting"))
    inputs |= dict.fromkeys(("texts", "dtype", "device", "model"))
    return RunRecord(
        verb="decode",
        answer="One.",
        inputs={**inputs, "prompt_tokens": prompt_tokens},
        results={
            "drafts": [draft],
            "rejection": [{"text": "novel", "rejectors": [rejector]}],
            "exact": {"equal": {"table": True}},
        },
    )


def test_intervals_are_students_over_seeds() -> None:
    """1.5, 1.7, 2.2: mean 1.8, sd 0.360555, t of 2 degrees 4.302653, half 0.895665."""
    combined = combine([record(1.5), record(1.7), record(2.2)])
    (row,) = combined.results["drafts"]
    assert row["tokens_per_verification"] == pytest.approx(1.8)
    assert row["tokens_per_verification_low"] == pytest.approx(1.8 - 0.895665, abs=1e-5)
    assert row["tokens_per_verification_high"] == pytest.approx(1.8 + 0.895665, abs=1e-5)
    assert "acceptance_rate" not in row
    assert combined.results["rejection"][0]["ms_ratio"] == 0.5
    assert "1.80 tokens per verification (0.90 to 2.70)" in combined.answer
    assert build_report(combined).answer == combined.answer


def test_records_of_other_options_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt_tokens"):
        combine([record(1.5), record(1.7, prompt_tokens=32)])
    with pytest.raises(ValueError, match="two records"):
        combine([record(1.5)])
