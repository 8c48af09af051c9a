"""What is wrong: facts and fields of the spec -> findings with a code, a severity, a way out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ngscale.audit.facts import OrderFacts, TableFacts
from ngscale.spec import MAX_TABLE_ROWS, NgramSpec
from ngscale.table_sizes import Fault

Severity = Literal["error", "warn", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warn", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth knowing about a design."""

    code: str
    severity: Severity
    message: str
    value: float | int | None = None
    fix: str | None = None


CODES: Mapping[str, str] = {
    "resonance": "a 2-gram table is near a small fraction of the hash base",
    "structured-sharing": "a table of order 3 or more shares rows by a short pattern",
    "base-gcd": "rows and hash base have a common factor",
    "identity-loss": "two different n-grams share the row in every table of their order",
    "int32-rows": "one int32 numbering of all rows overflows",
    "int32-products": "products overflow int32",
    "tp-rows": "rows do not divide by the tensor-parallel size",
    "fill-undecided": "the config does not say which id stands for missing context",
    "eos-reset": "implementations disagree on what an end-of-sequence id does",
    "fill-is-token": "missing context reads as a token id",
    "padding-row": "a row that HF training never updates",
    "word-scale": "implementations disagree on the word embedding's factor",
    "fractional-ratio": "a port stores the ratio as an integer",
    "ignored-ids": "the config lists ignored ids that no implementation honours",
    "joint-vocabulary": "a port would hash in the joint vocabulary size",
    "not-a-polynomial": "the lattice, the score and the certificate do not apply",
}
"""Every code, with what it means."""


def find(
    spec: NgramSpec,
    tables: Sequence[TableFacts],
    orders: Sequence[OrderFacts],
    faults: Sequence[Fault],
    config: Mapping[str, Any],
    tensor_parallel: int | None,
) -> list[Finding]:
    """Every finding, errors first; ``config`` is the config.json, for what a spec does not keep."""
    found = [
        *_sharing(spec, tables, faults),
        *_identity(orders),
        *_widths(spec, tensor_parallel),
        *_policies(spec, config),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _sharing(
    spec: NgramSpec, tables: Sequence[TableFacts], faults: Sequence[Fault]
) -> Iterator[Finding]:
    """Faults of the table sizes, one finding per kind and order."""
    if spec.hash_base is None:
        yield Finding(
            code="not-a-polynomial",
            severity="info",
            message="The hash is no exact polynomial: no lattice of colliding n-grams, and no "
            "proof that the tables of an order identify an n-gram. Measure it with "
            "`ngscale collisions`.",
        )
        return
    yield from _base_factors(spec, [fault for fault in faults if fault.code == "base-gcd"])
    for order in spec.orders:
        guilty = {
            fault.table
            for fault in faults
            if fault.order == order and fault.code in ("short-vector", "lattice-score")
        }
        if guilty:
            yield _patterns(order, [table for table in tables if table.index in guilty], spec)


def _base_factors(spec: NgramSpec, faults: Sequence[Fault]) -> Iterator[Finding]:
    if not faults:
        return
    worst = max(faults, key=lambda fault: fault.value)
    assert worst.table is not None
    rows = spec.table_rows[worst.table]
    yield Finding(
        code="base-gcd",
        severity="warn",
        message=f"{len(faults)} of {spec.num_tables} sizes share a factor with the hash base "
        f"{spec.hash_base}; the largest is {worst.value:.0f} (table {worst.table}, order "
        f"{worst.order}): a current token reaches {rows // int(worst.value):,} of its {rows:,} "
        "rows.",
        value=int(worst.value),
    )


def _patterns(order: int, tables: Sequence[TableFacts], spec: NgramSpec) -> Finding:
    worst = max(tables, key=lambda table: table.lattice.score if table.lattice else 0.0)
    assert worst.lattice is not None
    facts = worst.lattice
    near = f" ({facts.nearest.name('V')})" if order == 2 else ""
    total = len(spec.tables_of(order))
    return Finding(
        code="resonance" if order == 2 else "structured-sharing",
        severity="warn",
        message=f"{len(tables)} of {total} {order}-gram tables share rows by a pattern; in table "
        f"{worst.index}, {worst.rows:,} rows{near}, {facts.words}: "
        f"{facts.score:.3g} times an ideal hash's coincidences under the rank law.",
        value=facts.score,
    )


def _identity(orders: Sequence[OrderFacts]) -> Iterator[Finding]:
    for facts in orders:
        certificate = facts.certificate
        if certificate is None or certificate.witness is None:
            continue
        first, second = (", ".join(map(str, ngram)) for ngram in certificate.witness)
        yield Finding(
            code="identity-loss",
            severity="warn",
            message=f"The {len(facts.tables)} tables of order {facts.order} cannot tell all "
            f"n-grams apart: ({first}) and ({second}) share the row in each of them.",
            value=certificate.lcm,
        )


def _widths(spec: NgramSpec, tensor_parallel: int | None) -> Iterator[Finding]:
    if spec.physical_rows > MAX_TABLE_ROWS:
        yield Finding(
            code="int32-rows",
            severity="error",
            message=f"{spec.physical_rows:,} rows in all are more than the {MAX_TABLE_ROWS:,} "
            "that an engine with one int32 numbering of them addresses (SGLang mainline).",
            value=spec.physical_rows,
        )
    largest = (spec.vocab_size - 1) * (max(spec.table_rows) - 1)
    if spec.hash_base is not None and largest > MAX_TABLE_ROWS:
        yield Finding(
            code="int32-products",
            severity="info",
            message=f"Products reach {largest:,}: hash in int64, int32 overflows.",
            value=largest,
        )
    if tensor_parallel is not None:
        uneven = [rows for rows in spec.table_rows if rows % tensor_parallel]
        if uneven:
            yield Finding(
                code="tp-rows",
                severity="info",
                message=f"{len(uneven)} of {spec.num_tables} sizes do not divide by "
                f"{tensor_parallel}: pad the stored rows, never the modulus.",
                value=len(uneven),
            )


def _policies(spec: NgramSpec, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Where published implementations of this config disagree (docs/method.md, D1..D14)."""
    policy = spec.policy
    if policy.fill is None:
        yield Finding(
            code="fill-undecided",
            severity="error",
            message="The id that stands for missing context is the compressed id of the pad "
            "token, which this config does not say.",
            fix='"ngscale": {"fill": ID}',
        )
    if spec.hash_base is None:
        return
    if policy.boundary_tokens and policy.at_boundary == "lookback":
        eos = policy.boundary_tokens[0]
        yield Finding(
            code="eos-reset",
            severity="info",
            message=f"mlx-lm, mlx-vlm and SGLang <= 0.5.14 do not reset at id {eos}: ids differ "
            f"after every one; vLLM <= 0.33.0 gives row 0 of every table at id {eos} itself.",
            value=eos,
        )
    if policy.fill == 0 and policy.zero_id == "ordinary":
        yield Finding(
            code="fill-is-token",
            severity="info",
            message="Missing context reads as token id 0: at a start, rows 0 to "
            f"{spec.vocab_size - 1:,} of every table are those of a lone token.",
            value=0,
        )
    pad = config.get("pad_token_id")
    if spec.row_family == "longcat" and type(pad) is int:
        yield Finding(
            code="padding-row",
            severity="info",
            message=f"HF training gives row {pad} of every table no gradient (padding_idx).",
            value=pad,
        )
    if "LongcatCausalLM" in (config.get("architectures") or []):
        yield from _oe_models(config)
    ratio = config.get("ngram_vocab_size_ratio", config.get("oe_vocab_size_ratio"))
    if type(ratio) is float and not ratio.is_integer():
        yield Finding(
            code="fractional-ratio",
            severity="info",
            message=f"A llama.cpp fork stores the ratio as uint32 and cannot hold {ratio}.",
            value=ratio,
        )
    if "text_vocab_size" in config and spec.vocab_size != config.get("vocab_size"):
        yield Finding(
            code="joint-vocabulary",
            severity="info",
            message=f"The hash base is text_vocab_size {spec.vocab_size}; vLLM's native class "
            f"would hash in vocab_size {json.dumps(config.get('vocab_size'))}.",
            value=spec.vocab_size,
        )


def _oe_models(config: Mapping[str, Any]) -> Iterator[Finding]:
    yield Finding(
        code="word-scale",
        severity="info",
        message="No reference code is published for LongcatCausalLM: most ports divide word "
        "embedding and sum by 1 + E, mlx-vlm's longcat_flash_sparse only the sum. Unresolved.",
    )
    if config.get("oe_ignored_token_ids"):
        yield Finding(
            code="ignored-ids",
            severity="info",
            message="oe_ignored_token_ids is honoured by no implementation of LongcatCausalLM, "
            "except TokenSpeed with ngram_exclude_sp_token.",
        )
