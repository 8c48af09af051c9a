"""The recipe of reports/*-extrapolation: what it samples and how it sums up."""

import numpy as np

from ngscale.tokens import TokenStream
from reports.extrapolation import first_tokens, summarise


def test_a_sample_is_whole_documents_in_random_order_the_last_one_cut() -> None:
    lengths = np.arange(1, 30)
    tokens = np.repeat(np.arange(1, 30), lengths).astype(np.uint32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    stream = TokenStream(
        tokens=tokens, doc_starts=starts, vocab_size=30, num_bytes=0, known_sha256="x"
    )
    for number in (1, 100, 435):
        found = first_tokens(stream, number, seed=4)
        assert found.num_tokens == number == found.doc_starts[-1]
        assert found.known_sha256 == ""
        whole = np.diff(found.doc_starts)[:-1]
        assert whole.tolist() == found.tokens[found.doc_starts[:-2]].tolist()
        again = first_tokens(stream, number, seed=4)
        assert again.tokens.tolist() == found.tokens.tolist()
        if number == 435:
            assert sorted(found.tokens.tolist()) == tokens.tolist()


def test_a_summary_counts_what_is_covered_order_by_order_and_together() -> None:
    def against(error: float, covered: bool) -> dict[str, float | bool]:
        return {"error": error, "covered": covered, "low": 1.0, "high": 4.0}

    cells = [
        {
            "start": 3,
            "target": 90,
            "order": order,
            "within_bounds": order < 5,
            "distinct": against(0.1 * order, order != 3),
            "impurity": [against(-0.5, True), against(0.1, False)],
        }
        for order in (2, 3, 4, 5)
    ]
    pooled, *by_order = summarise(cells)
    assert (pooled["order"], pooled["factor"], pooled["predictions"]) == (0, 30.0, 4)
    assert pooled["within_bounds"] == 0.75
    assert pooled["distinct"]["coverage"] == 0.75
    assert abs(pooled["distinct"]["median_abs_error"] - 0.35) < 1e-12
    assert pooled["distinct"]["worst_error"] == 0.5
    assert pooled["distinct"]["median_width"] == 2.0
    assert pooled["impurity"]["coverage"] == 0.5
    assert pooled["impurity"]["worst_error"] == -0.5
    assert [row["distinct"]["coverage"] for row in by_order] == [1.0, 0.0, 1.0, 1.0]
