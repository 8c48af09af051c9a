"""A target, tokens and policies -> a record."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ngscale import presets
from ngscale.config_reader import ConfigReader, read_config
from ngscale.errors import InputError, SpecError, UsageError
from ngscale.ids.lookups import Change, Lookups, Tokens, changes, look_up
from ngscale.ngram_config import EXTENSION_KEY, NGRAM_MODEL_TYPE, specs_of
from ngscale.policy import Policy
from ngscale.presets.policies import Implementation, SpecialIds, apply, find, special_ids
from ngscale.records import RunRecord
from ngscale.spec import NgramSpec, PolynomialHash

OWN_POLICY = "the config"
"""What records call the policy that a config.json itself describes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The tables of a target, and the ids that a policy may need."""

    title: str
    config_sha256: str
    specs: tuple[NgramSpec, ...]
    special: SpecialIds
    given: frozenset[str]
    """Fields of ``special`` that came from the command line."""
    vocab_size: int
    """Ids the model has; it may hash by fewer (LongCat-Next)."""
    explicit: bool
    """Whether the policy stands in an extension block of the config."""


def load(target: str, *, layer: int | None = None, given: Mapping[str, Any]) -> Subject:
    """The tables of ``target``: all, or those that a layer reads; ``given``: special ids.

    Raises:
        InputError: the target is none, or its config is not understood.
        UsageError: no table is read by that layer.
    """
    path = presets.resolve(target)
    reader = read_config(path)
    specs = specs_of(reader)
    if layer is not None:
        listed = sorted({index for spec in specs for index in spec.layers})
        specs = tuple(spec for spec in specs if layer in spec.layers)
        if not specs:
            known = ", ".join(map(str, listed)) or "none, the rows join the input embedding"
            raise UsageError(f"--layer {layer}: reads no rows; layers that do: {known}")
    special = replace(special_ids(reader, specs[0]), **given)
    return Subject(
        title=presets.title(target),
        config_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        specs=specs,
        special=special,
        given=frozenset(given),
        vocab_size=_vocab_size(reader, specs[0], special),
        explicit=reader.model_type == NGRAM_MODEL_TYPE
        or "policy" in (reader.values.get(EXTENSION_KEY) or {}),
    )


def _vocab_size(reader: ConfigReader, spec: NgramSpec, special: SpecialIds) -> int:
    known = [spec.vocab_size, *(end for _, end in special.ignored)]
    whole = reader.values.get("vocab_size")
    if isinstance(spec.hash, PolynomialHash) and type(whole) is int:
        known.append(whole)
    return max(known)


def under(subject: Subject, policy: str | None) -> tuple[NgramSpec, ...]:
    """The subject's specs as the implementation ``policy`` hashes them.

    Raises:
        UsageError: the policy is not known or makes no sense for this model.
    """
    if policy is None:
        return subject.specs
    return tuple(apply(spec, policy, subject.special) for spec in subject.specs)


def rows_record(
    subject: Subject, tokens: Tokens, policy: str | None, other: str | None
) -> tuple[RunRecord, list[Lookups]]:
    """Rows at every position of every table, and what changes under the policy ``other``.

    Raises:
        UsageError: a policy does not fit, or an id is not in the vocabulary.
        InputError: the config leaves something undecided.
    """
    _check_tokens(subject, tokens)
    specs = under(subject, policy)
    other_specs = None if other is None else under(subject, other)
    _check_beside(tokens, (*specs, *(other_specs or ())))
    try:
        found = [look_up(tokens, spec) for spec in specs]
        results: dict[str, Any] = {
            "policy": policy_json(subject, specs[0], policy),
            "layers": [_layer_json(rows) for rows in found],
            "difference": None,
        }
        answer = _rows_answer(subject, specs, found, policy)
        if other is not None and other_specs is not None:
            names = (policy or OWN_POLICY, other)
            other_found = [look_up(tokens, spec) for spec in other_specs]
            changed = [
                changes(tokens, one, two, names)
                for one, two in zip(found, other_found, strict=True)
            ]
            results["difference"] = _difference_json(subject, tokens, other_found, other, changed)
            factors = (specs[0].word_scale, other_specs[0].word_scale)
            answer = _difference_answer(subject, found, changed, names, factors)
    except SpecError as error:
        raise InputError(f"{subject.title}: {error}") from error
    record = RunRecord(
        verb="ids",
        answer=answer,
        inputs={
            "target": subject.title,
            "config_sha256": subject.config_sha256,
            "policy": policy,
            "diff": other,
            "eos": subject.special.eos,
            "pad_id": subject.special.pad,
            "ignored": subject.special.ignored,
            "tokens": tokens.ids,
            "segments": tokens.segments,
            "dead": tokens.dead,
        },
        results=results,
    )
    return record, found


def _check_tokens(subject: Subject, tokens: Tokens) -> None:
    for position, token in enumerate(tokens.ids):
        if not 0 <= token < subject.vocab_size:
            kind = "compressed ids" if subject.specs[0].compressed_vocab else "ids"
            raise UsageError(
                f"token {token} at position {position}: {subject.title} has {kind} "
                f"0..{subject.vocab_size - 1}"
            )


def _check_beside(tokens: Tokens, specs: Sequence[NgramSpec]) -> None:
    minded = [tokens.beside(spec.policy) for spec in specs]
    if tokens.segments is not None and all(segments is None for segments, _ in minded):
        raise UsageError("--segments: no policy asked for separates documents by segment ids")
    if tokens.dead is not None and all(dead is None for _, dead in minded):
        raise UsageError("--dead: no policy asked for treats positions without text differently")


_NAMED = {
    "eos": ("eos_token_id", "--eos"),
    "pad": ("pad_token_id", "--pad-id"),
    "ignored": ("oe_ignored_token_ids", "--ignored"),
}
"""Special id -> its key in config.json, its option."""


def policy_json(subject: Subject, spec: NgramSpec, policy: str | None) -> dict[str, Any]:
    """The policy, every field of it with where it is from, and what is unverified."""
    entry = None if policy is None else find(policy)
    own = "the config's ngscale block" if subject.explicit else "the model family's published code"
    origin = dict.fromkeys([field.name for field in fields(Policy)], own)
    if entry is not None:
        origin = dict.fromkeys(origin, f"policy {entry.name}: {entry.source}")
    origin["word_scale"] = origin["padding"] if entry and "word_scale" in entry.spec else own
    held = {
        "boundary_tokens": ("eos", _is_eos(spec, subject, entry)),
        "ignored_tokens": ("ignored", bool(spec.policy.ignored_tokens)),
        "fill": ("pad", entry is not None and entry.fill == "pad_id"),
    }
    for name, (source, is_used) in held.items():
        if is_used:
            key, option = _NAMED[source]
            given = source in subject.given and entry is not None
            origin[name] = option if given else own if subject.explicit else f"{key} of the config"
    values = {field.name: getattr(spec.policy, field.name) for field in fields(Policy)}
    values["word_scale"] = spec.word_scale
    return {
        "name": OWN_POLICY if entry is None else entry.name,
        "fields": {name: {"value": values[name], "from": origin[name]} for name in values},
        "source": None if entry is None else entry.source,
        "confidence": None if entry is None else entry.confidence,
        "notes": [] if entry is None else [*entry.notes, *filter(None, [entry.draft])],
        "unverified": [] if entry is None else entry.unverified,
    }


def _is_eos(spec: NgramSpec, subject: Subject, entry: Implementation | None) -> bool:
    """Whether the boundary is the end-of-sequence id that was given, and no other rule's."""
    is_eos = spec.policy.boundary_tokens == (subject.special.eos,)
    return is_eos and (entry is None or entry.boundaries == ("eos",))


def _layer_json(found: Lookups) -> dict[str, Any]:
    spec = found.spec
    return {
        "layers": spec.layers,
        "tables": [
            {"index": i, "order": order, "rows": rows}
            for i, (order, rows) in enumerate(zip(spec.table_orders, spec.table_rows, strict=True))
        ],
        "ids": nullable(found),
        "reads_as_zero": _pairs(found.zero.nonzero()),
        "word_alone": found.word_alone.nonzero()[0].tolist(),
    }


def _pairs(places: tuple[Any, ...]) -> list[list[int]]:
    return [list(pair) for pair in zip(*(axis.tolist() for axis in places), strict=True)]


def nullable(found: Lookups) -> list[list[int | None]]:
    """Rows as lists, None where nothing is looked up."""
    if (found.ids >= 0).all():
        rows: list[list[int | None]] = found.ids.tolist()
        return rows
    return [[None if row < 0 else row for row in rows] for rows in found.ids.tolist()]


def _difference_json(
    subject: Subject,
    tokens: Tokens,
    found: Sequence[Lookups],
    policy: str,
    changed: Sequence[Sequence[Change]],
) -> dict[str, Any]:
    reasons = Counter(why for layer in changed for change in layer for why in change.reasons)
    return {
        "policy": policy_json(subject, found[0].spec, policy),
        "reasons": [{"why": why, "positions": count} for why, count in reasons.most_common()],
        "layers": [
            {
                "layers": rows.spec.layers,
                "ids": nullable(rows),
                "positions": [
                    {
                        "position": change.position,
                        "token": tokens.ids[change.position],
                        "tables": change.tables,
                        "why": change.reasons,
                    }
                    for change in layer
                ],
            }
            for rows, layer in zip(found, changed, strict=True)
        ],
    }


def _rows_answer(
    subject: Subject, specs: Sequence[NgramSpec], found: Sequence[Lookups], policy: str | None
) -> str:
    bypassed = sum(int((rows.ids < 0).sum()) for rows in found)
    zero = sum(int(rows.zero.sum()) for rows in found)
    number = sum(rows.ids.size for rows in found) - bypassed
    tables = sum(spec.num_tables for spec in specs)
    rest = f", {bypassed:,} bypassed" if bypassed else ""
    rest += f", {zero:,} that read as the zero vector" if zero else ""
    kind = " (compressed)" if specs[0].compressed_vocab else ""
    return (
        f"{len(found[0].ids):,} token ids{kind} read {number:,} rows of {tables} tables of "
        f"{subject.title} by the policy of {policy or OWN_POLICY}{rest}."
    )


def _difference_answer(
    subject: Subject,
    found: Sequence[Lookups],
    changed: Sequence[Sequence[Change]],
    names: tuple[str, str],
    factors: tuple[str, str],
) -> str:
    one, two = names
    scale = ""
    if factors[0] != factors[1]:
        scale = (
            f"; the word embedding's factor differs: {factors[0]} in {one}, {factors[1]} in {two}"
        )
    positions = {change.position for layer in changed for change in layer}
    if not positions:
        return (
            f"No position differs on these tokens between {one} and {two} in "
            f"{subject.title}{scale}."
        )
    reads = sum(len(change.tables) for layer in changed for change in layer)
    reasons = Counter(why for layer in changed for change in layer for why in change.reasons)
    ((first, _),) = reasons.most_common(1)
    more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return (
        f"{len(positions):,} of {len(found[0].ids):,} positions ({reads:,} of "
        f"{sum(rows.ids.size for rows in found):,} look-ups) of {subject.title} differ between "
        f"{one} and {two}: {first}{more}{scale}."
    )
