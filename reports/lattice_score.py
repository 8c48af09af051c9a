"""Does the lattice score, which reads no text, order table sizes as measured purity does?

Draws sizes (seeded; random ones and ones next to fractions of V0, never on them), measures the
impurity of every order's table on each corpus, and compares its excess over the ideal hash with the
score and with two simpler predictors. The last corpus is measured once more with its ids permuted:
the control. Give corpora as NAME:TOKENIZER, or NAME:TOKENIZER:TOKENS for every k-th document.

    python -m reports.lattice_score --corpus english:tekken --out reports/DATE-audit-lattice-score
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ngscale.lattice import relative_length, shortest_ngram_vector, vector_words
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
)
from ngscale.resonance import gcd_with_base
from ngscale.table_sizes import MAX_LATTICE_SCORE
from ngscale.tokens import TokenStream

ORDERS = (2, 3, 4)
LOW_RATIO, HIGH_RATIO = 20, 110
MAX_Q = 16
MAX_OFFSET = 2000
NUM_RESAMPLES = 2000
VISIBLE_EXCESS = 1.05
"""Impurity 5% above the ideal hash's counts as damage."""
PREDICTORS = ("score", "length", "integer_distance")
NUM_MISSES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A size as it was drawn, for any base: ``int(ratio * V)``, or p/q of V plus an offset."""

    ratio: float
    p: int | None = None
    q: int | None = None
    offset: int = 0

    def rows(self, base: int) -> int:
        """Rows of the table."""
        if self.p is None or self.q is None:
            return int(self.ratio * base)
        return (2 * self.p * base + self.q) // (2 * self.q) + self.offset


def draw_sizes(seed: int, number: int) -> list[Draw]:
    """Half log-uniform ratios in [20, 110), half next to p/q, q uniform in 1..16.

    Offsets from p/q are log-uniform in 1..2000 rows, of either sign.
    """
    rng = np.random.default_rng(seed)
    bounds = math.log(LOW_RATIO), math.log(HIGH_RATIO)
    drawn = [Draw(ratio=math.exp(rng.uniform(*bounds))) for _ in range(number // 2)]
    while len(drawn) < number:
        q = int(rng.integers(1, MAX_Q + 1))
        p = int(rng.integers(LOW_RATIO * q, HIGH_RATIO * q))
        if math.gcd(p, q) == 1:
            distance = round(math.exp(rng.uniform(0.0, math.log(MAX_OFFSET))))
            drawn.append(Draw(ratio=p / q, p=p, q=q, offset=distance * int(rng.choice((-1, 1)))))
    return drawn


def read_corpus(text: str) -> tuple[TokenStream, dict[str, Any]]:
    """``NAME:TOKENIZER[:TOKENS]``: the stream, or every k-th document of it."""
    from ngscale.commands.source import read_source

    name, tokenizer, *limit = text.split(":")
    stream, inputs = read_source([name], tokenizer)
    stride = math.ceil(stream.num_tokens / int(limit[0])) if limit else 1
    if stride > 1:
        starts = stream.doc_starts
        parts = [
            stream.tokens[starts[d] : starts[d + 1]] for d in range(0, stream.num_docs, stride)
        ]
        stream = replace(
            stream,
            tokens=np.concatenate(parts),
            doc_starts=np.cumsum([0, *map(len, parts)], dtype=np.int64),
            known_sha256="",
        )
    described = {
        "label": f"{name}, {inputs['tokenizer']['name']}",
        "vocab_size": stream.vocab_size,
        "num_tokens": stream.num_tokens,
        "every_kth_document": stride,
        "sha256_of_tokens": stream.sha256(),
        "tokenizer_sha256": inputs["tokenizer"]["sha256"],
        "permuted": False,
    }
    return stream, described


def permuted(stream: TokenStream, seed: int) -> TokenStream:
    """The same text with its ids renumbered at random."""
    ids = np.random.default_rng(seed).permutation(stream.vocab_size).astype(np.uint32)
    return replace(stream, tokens=ids[np.asarray(stream.tokens)], known_sha256="")


def measure_corpus(stream: TokenStream, draws: Sequence[Draw]) -> dict[str, Any]:
    """Sizes, and by order: distinct n-grams, impurity over the ideal hash's, and the predictors."""
    from ngscale.collisions.expected import IdealHash
    from ngscale.collisions.metrics import measure
    from ngscale.hashing.registry import make_scheme
    from ngscale.lattice_score import lattice_scores
    from ngscale.ngrams import count_ngrams

    base = stream.vocab_size
    sizes = [draw.rows(base) for draw in draws]
    scheme = make_scheme("longcat", vocab_size=base, base=None, multipliers=None, seed=None)
    orders = []
    for order in ORDERS:
        table = count_ngrams(stream, orders=[order])[order]
        ideal = IdealHash(table, [])

        def excess(rows: int, table: Any = table, ideal: IdealHash = ideal) -> float:
            impurity = measure(table, scheme, rows).impurity
            assert impurity is not None
            return impurity / (1.0 - ideal.purity_at(rows))

        with ThreadPoolExecutor(max_workers=2) as pool:
            excesses = list(pool.map(excess, sizes))
        orders.append(
            {
                "order": order,
                "distinct": table.distinct,
                "excess": excesses,
                "score": lattice_scores(sizes, base, order).tolist(),
                "length": [
                    relative_length(shortest_ngram_vector(rows, base, order), rows)
                    for rows in sizes
                ],
                "integer_distance": [abs(rows / base - round(rows / base)) for rows in sizes],
            }
        )
        print(f"order {order}: {table.distinct:,} n-grams, {len(sizes)} sizes", file=sys.stderr)
    return {"sizes": sizes, "orders": orders}


def correlations(
    measured: Mapping[str, Any], coprime: Sequence[bool], seed: int
) -> dict[str, list[float]]:
    """Spearman's rho of each predictor with the excess, and its 95% percentile bootstrap interval.

    Short vectors and small distances predict damage, so their signs are turned. ``score_coprime``
    is the score's over the sizes that have no factor in common with V0.
    """
    excess = np.array(measured["excess"])
    found = {
        name: _interval(np.array(measured[name]) * (1 if name == "score" else -1), excess, seed)
        for name in PREDICTORS
    }
    found["score_coprime"] = _interval(np.array(measured["score"])[coprime], excess[coprime], seed)
    return found


def _interval(predictor: Any, excess: Any, seed: int) -> list[float]:
    number = len(excess)
    resamples = np.random.default_rng(seed).integers(0, number, (NUM_RESAMPLES, number))
    rhos = _spearman(predictor[resamples], excess[resamples])
    low, high = np.quantile(rhos, (0.025, 0.975)).tolist()
    return [float(_spearman(predictor[None], excess[None])[0]), low, high]


def _spearman(first: Any, second: Any) -> Any:
    """Of each row; ties share their mean rank."""
    a, b = rankdata(first, axis=1), rankdata(second, axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


def run(corpora: Sequence[str], seed: int, number: int) -> RunRecord:
    """Measure everything; the first corpus is the one the control permutes."""
    draws = draw_sizes(seed, number)
    described, results = [], []
    for text in corpora:
        stream, inputs = read_corpus(text)
        print(f"{inputs['label']}: {stream.num_tokens:,} tokens", file=sys.stderr)
        described.append(inputs)
        results.append(measure_corpus(stream, draws))
        if len(described) == 1:
            control = {**inputs, "label": f"{inputs['label']}, ids permuted", "permuted": True}
            results_control = measure_corpus(permuted(stream, seed), draws)
    described.append(control)
    results.append(results_control)
    inputs = {
        "corpora": described,
        "seed": seed,
        "num_sizes": number,
        "ratios": [LOW_RATIO, HIGH_RATIO],
        "max_q": MAX_Q,
        "max_offset": MAX_OFFSET,
        "resamples": NUM_RESAMPLES,
        "draws": [[draw.ratio, draw.p, draw.q, draw.offset] for draw in draws],
    }
    return build(inputs, results)


def build(inputs: Mapping[str, Any], results: Sequence[Any]) -> RunRecord:
    """The record: what was measured, and how it correlates."""
    for described, result in zip(inputs["corpora"], results, strict=True):
        coprime = _coprime(described, result)
        for measured in result["orders"]:
            measured["spearman"] = correlations(measured, coprime, inputs["seed"])
    return RunRecord(
        verb="lattice-score",
        answer=_answer(inputs["corpora"], results, inputs["num_sizes"]),
        inputs=inputs,
        results={"results": results},
    )


def _coprime(described: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    return np.array([gcd_with_base(s, described["vocab_size"]) == 1 for s in result["sizes"]])


def _answer(described: Sequence[Any], results: Sequence[Any], number: int) -> str:
    bigrams = [result["orders"][0]["spearman"] for result in results]
    real = [b for b, inputs in zip(bigrams, described, strict=True) if not inputs["permuted"]]
    control = [b for b, inputs in zip(bigrams, described, strict=True) if inputs["permuted"]]
    rho = [b["score"][0] for b in real]
    baseline = [b["integer_distance"][0] for b in real]
    vocabularies = len({inputs["vocab_size"] for inputs in described})
    return (
        f"The lattice score of bigram tables, computed without a corpus, orders {number} sizes as "
        f"measured impurity does with Spearman {min(rho):.2f} to {max(rho):.2f} on {len(real)} "
        f"corpora and {vocabularies} vocabularies (distance to the nearest integer: "
        f"{min(baseline):.2f} to {max(baseline):.2f}; ids permuted: {control[0]['score'][0]:.2f}, "
        f"and {control[0]['score_coprime'][0]:.2f} over the sizes coprime with V0)."
    )


def build_report(record: RunRecord) -> Report:
    """Correlations, what the threshold catches, scatter and misses."""
    described = record.inputs["corpora"]
    results = record.results["results"]
    pairs = list(zip(described, results, strict=True))
    return Report(
        title="Validation of the lattice score",
        answer=record.answer,
        sections=(
            Section(
                heading="Order of sizes",
                paragraphs=(
                    f"{record.inputs['num_sizes']} sizes (seed {record.inputs['seed']}): half with "
                    f"log-uniform ratios of {LOW_RATIO} to {HIGH_RATIO}, half 1 to {MAX_OFFSET} "
                    f"rows off a fraction p/q of V0 with q up to {MAX_Q}, none on it. The formula "
                    "was fixed in docs/method.md before anything was measured; nothing was fitted. "
                    "Impurity is pooled over the corpus and divided by the ideal hash's exact "
                    "expectation. Intervals: 95% percentile bootstrap over sizes.",
                ),
                figures=(_figure(pairs),),
                tables=(_correlation_table(pairs),),
            ),
            Section(
                heading="What the threshold catches",
                paragraphs=(
                    f"A table is damaged when its impurity is {VISIBLE_EXCESS} times the ideal "
                    f"hash's or more, and flagged when its score exceeds {MAX_LATTICE_SCORE}.",
                ),
                tables=(_threshold_table(pairs),),
            ),
            Section(
                heading="Misses",
                paragraphs=MISSES,
                tables=(_miss_table(pairs), _data_table(pairs)),
            ),
        ),
    )


MISSES = (
    "The sizes of the first corpus whose rank by score is farthest from their rank by measurement, "
    "for every order. Among bigrams all are sizes without damage, within 7% of the ideal hash. At "
    "44.5635 x V0 the most impurity along one vector comes from bigrams whose previous tokens are "
    "8,779 ids apart and whose current ones are 246: the smooth law gives such a vector little.",
    "The score is as good as its assumption that ids are in order of frequency. It is least good "
    "for gemma3, which keeps single characters, full stop and comma among them, above id 236,000: "
    "at 69.5686 x V0 (score 0.68, measured 1.14, the worst that passes) the vector of most "
    "impurity joins previous tokens 236,255 ids apart, and at 36.6267 x V0 (0.95, 1.12; "
    "gcd 185) current tokens that are the same and previous ones 51,900 apart.",
    "At orders 3 and 4 most sizes are within 0.5% of the ideal hash and of each other, so that "
    "ranks are largely noise; the score is truncated there besides, and draws tokens "
    "independently, which text does not. For 4-grams coprime with V0 it does not order sizes "
    "(negative): there is next to nothing to order, the worst that passes has 1.02 times the ideal "
    "hash's impurity. What it does find are the tables that suffer.",
    "With permuted ids the score should find nothing, and for sizes coprime with V0 the interval "
    "contains 0 at every order. The rest is real: a common factor g of V0 and M lets the current "
    "token fix the row mod g whatever ids mean, and the score counts that. It is why such sizes "
    "have a check of their own: 4-gram tables with g = 32 score just under the threshold and have "
    "up to a tenth more impurity on kernel code.",
)


def _correlation_table(pairs: Sequence[tuple[Any, Any]]) -> Table:
    rows = []
    for inputs, result in pairs:
        for measured in result["orders"]:
            row = {
                "corpus": inputs["label"],
                "V": inputs["vocab_size"],
                "order": measured["order"],
                "distinct": measured["distinct"],
            }
            for name in (*PREDICTORS, "score_coprime"):
                rho, low, high = measured["spearman"][name]
                row[name] = f"{rho:.3f} [{low:.3f}, {high:.3f}]"
            rows.append(row)
    return Table(
        name="spearman",
        title="Spearman's rho with the measured excess",
        columns=(
            Column(key="corpus", title="corpus, tokenizer"),
            Column(key="V", title="V0", spec=",d"),
            Column(key="order", title="n", spec="d"),
            Column(key="distinct", title="distinct n-grams", spec=",d"),
            Column(key="score", title="lattice score"),
            Column(key="score_coprime", title="lattice score, gcd(V0, M) = 1"),
            Column(key="length", title="shortest vector"),
            Column(key="integer_distance", title="distance to nearest integer"),
        ),
        rows=rows,
    )


def _threshold_table(pairs: Sequence[tuple[Any, Any]]) -> Table:
    rows = []
    for inputs, result in pairs:
        coprime = _coprime(inputs, result)
        for measured in result["orders"]:
            flagged = np.array(measured["score"]) > MAX_LATTICE_SCORE
            excess = np.array(measured["excess"])
            damaged = excess >= VISIBLE_EXCESS
            rows.append(
                {
                    "corpus": inputs["label"],
                    "order": measured["order"],
                    "flagged": int(flagged.sum()),
                    "damaged": int(damaged.sum()),
                    "both": int((flagged & damaged).sum()),
                    "worst_passed": float(excess[~flagged].max()),
                    "worst_coprime": float(excess[~flagged & coprime].max()),
                    "worst": float(excess.max()),
                }
            )
    return Table(
        name="threshold",
        title="Flagged and damaged sizes",
        columns=(
            Column(key="corpus", title="corpus, tokenizer"),
            Column(key="order", title="n", spec="d"),
            Column(key="damaged", title="damaged", spec="d"),
            Column(key="flagged", title="flagged", spec="d"),
            Column(key="both", title="both", spec="d"),
            Column(key="worst_passed", title="worst not flagged, x ideal", spec=".3f"),
            Column(key="worst_coprime", title="and gcd(V0, M) = 1", spec=".3f"),
            Column(key="worst", title="worst, x ideal", spec=".3f"),
        ),
        rows=rows,
    )


def _miss_table(pairs: Sequence[tuple[Any, Any]]) -> Table:
    inputs, result = pairs[0]
    base = inputs["vocab_size"]
    rows = []
    for measured in result["orders"]:
        by_score, by_excess = rankdata(measured["score"]), rankdata(measured["excess"])
        residual = by_score - by_excess
        for at in np.argsort(-np.abs(residual), kind="stable")[:NUM_MISSES].tolist():
            size = result["sizes"][at]
            rows.append(
                {
                    "order": measured["order"],
                    "ratio": size / base,
                    "gcd": gcd_with_base(size, base),
                    "score": measured["score"][at],
                    "excess": measured["excess"][at],
                    "rank_by_score": int(by_score[at]),
                    "rank_by_excess": int(by_excess[at]),
                    "vector": vector_words(shortest_ngram_vector(size, base, measured["order"])),
                }
            )
    return Table(
        name="misses",
        title=f"Largest residuals on {inputs['label']}",
        columns=(
            Column(key="order", title="n", spec="d"),
            Column(key="ratio", title="x V0", spec=".4f"),
            Column(key="gcd", title="gcd with V0", spec="d"),
            Column(key="score", title="score", spec=".3f"),
            Column(key="excess", title="measured, x ideal", spec=".4f"),
            Column(key="rank_by_score", title="rank by score", spec="d"),
            Column(key="rank_by_excess", title="measured rank", spec="d"),
            Column(key="vector", title="shortest vector"),
        ),
        rows=rows,
    )


def _data_table(pairs: Sequence[tuple[Any, Any]]) -> Table:
    rows = [
        {
            "corpus": inputs["label"],
            "order": measured["order"],
            "rows": size,
            **{key: measured[key][at] for key in ("excess", *PREDICTORS)},
        }
        for inputs, result in pairs
        for measured in result["orders"]
        for at, size in enumerate(result["sizes"])
    ]
    keys = ("corpus", "order", "rows", "excess", *PREDICTORS)
    columns = tuple(Column(key=key, title=key) for key in keys)
    return Table(name="sizes", title="Every size", columns=columns, rows=rows, terminal=False)


def _figure(pairs: Sequence[tuple[Any, Any]]) -> Figure:
    panels = []
    for at, order in enumerate(ORDERS):
        series = []
        for inputs, result in pairs:
            measured = result["orders"][at]
            x = np.log10(measured["score"]).tolist()
            series.append(Series(label=inputs["label"], x=x, y=measured["excess"], style="points"))
        panels.append(
            Panel(
                title=f"{order}-grams",
                x_label="log10 of the lattice score",
                y_label="impurity over the ideal hash's",
                series=tuple(series),
                y_log=order == 2,
            )
        )
    return Figure(
        name="score",
        caption="Measured impurity over the ideal hash's, against the lattice score; a point is a "
        "table size. With permuted ids what the score sees is gone.",
        panels=tuple(panels),
    )


def main() -> None:
    """Measure and write the report."""
    from ngscale.report import write_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", action="append", required=True, metavar="NAME:TOKENIZER")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--sizes", type=int, default=240)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record = run(given.corpus, given.seed, given.sizes)
    made = {"program": ["python", "-m", "reports.lattice_score"], **environment(sys.argv[1:])}
    write_report(build_report(record), record, made, given.out)
    print(record.answer)


if __name__ == "__main__":
    main()
