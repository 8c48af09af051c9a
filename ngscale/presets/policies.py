"""Implementations of published hashes by name and version, and what they make of a spec.

``policies.toml`` says what each does, where that is from and what of it is unverified.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ngscale.config_reader import ConfigReader
from ngscale.errors import SpecError, UsageError
from ngscale.ngram_config import ignored_ranges
from ngscale.policy import MODES, Policy, mode_policy
from ngscale.spec import NgramSpec, XorHash

Family = Literal["longcat", "engram", "qwen", "bigram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One entry of policies.toml."""

    name: str
    family: Family
    source: str
    confidence: str
    """executed, read or partly read; definition for a mode by itself."""
    mode: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    boundaries: tuple[int | str, ...] = ("eos",)
    fill: Literal["pad_id"] | None = None
    integer_ratio: bool = False
    """Whether a fractional ratio cannot be stored (D13)."""
    flexible: bool = False
    """Whether it takes any hash base and any fusion."""
    not_next: str | None = None
    """Why it cannot hash LongCat-Next, if so."""
    since: str | None = None
    """The first version there is, where the name gives the last."""
    draft: str | None = None
    """What a draft head does differently (D14)."""
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialIds:
    """The ids a policy may need, from config.json or the command line."""

    eos: int | None = None
    pad: int | None = None
    ignored: tuple[tuple[int, int], ...] = ()
    """Half-open ranges."""


@functools.cache
def implementations() -> Mapping[str, Implementation]:
    """Every entry of policies.toml by its name, and the modes of the LongCat polynomial.

    The values say by ``source`` and ``confidence`` how each is known.
    """
    text = (Path(__file__).parent / "policies.toml").read_text(encoding="utf-8")
    listed = {name: _entry(name, values) for name, values in tomllib.loads(text).items()}
    modes = {
        mode: Implementation(
            name=mode,
            family="longcat",
            mode=mode,
            source=f"the mode {mode} of the LongCat polynomial, of no implementation in particular",
            confidence="definition",
            flexible=True,
        )
        for mode in MODES
    }
    return modes | listed


def _entry(name: str, values: Mapping[str, Any]) -> Implementation:
    frozen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return Implementation(name=name, **frozen)


def find(name: str) -> Implementation:
    """The entry called ``name``; ``sglang==0.5.20`` is the entry that covers that version.

    Raises:
        UsageError: there is none; names the versions there are, or all names.
    """
    known = implementations()
    if name in known:
        return known[name]
    package, _, version = name.partition("==")
    covering = {
        entry: bounds.groups()
        for entry in known
        if (bounds := re.fullmatch(rf"{re.escape(package)}([<>])=([\d.]+)", entry))
    }
    if re.fullmatch(r"\d+(\.\d+)*", version):
        for entry, (sign, bound) in covering.items():
            low, high = (bound, None) if sign == ">" else (known[entry].since, bound)
            above = low is None or _numbers(low) <= _numbers(version)
            if above and (high is None or _numbers(version) <= _numbers(high)):
                return known[entry]
        if covering:
            raise UsageError(f"policy {name}: not inspected; inspected: {', '.join(covering)}")
    if covering:
        raise UsageError(f"policy {name}: differs by version; take {' or '.join(covering)}")
    raise UsageError(f"policy {name}: not known; known: {', '.join(sorted(known))}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def family_of(spec: NgramSpec) -> Family | None:
    """Whose policies a spec can have; None where only one implementation is known."""
    if isinstance(spec.hash, XorHash):
        if spec.hash.arithmetic == "int32":
            return "bigram" if spec.reserved_rows else None
        kinds: dict[str, Family] = {"prime_pool": "engram", "consecutive_primes": "qwen"}
        return kinds.get(spec.row_family)
    return None if spec.hash_base is None else "longcat"


def special_ids(reader: ConfigReader, spec: NgramSpec) -> SpecialIds:
    """The ids that a config.json names, else those of its own policy.

    Raises:
        InputError: ``oe_ignored_token_ids`` or ``special_token_scope`` is no list of ids.
    """
    boundaries = spec.policy.boundary_tokens
    pad = reader.values.get("pad_token_id")
    eos = reader.values.get("eos_token_id")
    if len(boundaries) == 1:
        eos = boundaries[0]
    return SpecialIds(
        eos=eos if type(eos) is int else None,
        pad=pad if type(pad) is int else None,
        ignored=ignored_ranges(reader) or spec.policy.ignored_tokens,
    )


def apply(spec: NgramSpec, name: str, special: SpecialIds) -> NgramSpec:
    """``spec`` as the implementation ``name`` hashes it: same hash, its policy.

    Raises:
        UsageError: no such policy, not one of this kind of hash, or an id it needs is not given.
    """
    entry = find(name)
    _check_fits(entry, spec)
    try:
        policy = spec.policy if entry.mode is None else _mode_policy(entry, special)
        return replace(spec, policy=replace(policy, **entry.policy), **entry.spec)
    except SpecError as error:
        raise UsageError(f"policy {entry.name}: {error}") from error


def _check_fits(entry: Implementation, spec: NgramSpec) -> None:
    family = family_of(spec)
    if family is None:
        raise UsageError(f"policy {entry.name}: one implementation of this model's hash is known")
    if family != entry.family:
        raise UsageError(f"policy {entry.name}: is for {entry.family}, this model is of {family}")
    if family == "longcat" and not entry.flexible:
        if spec.fusion != "average":
            raise UsageError(f"policy {entry.name}: averages rows, this model has {spec.fusion}")
        if spec.hash_base != spec.vocab_size:
            raise UsageError(
                f"policy {entry.name}: hashes in base {spec.vocab_size}, this model in "
                f"{spec.hash_base}"
            )
    if entry.not_next and spec.policy.zero_id == "closes":
        raise UsageError(f"policy {entry.name}: {entry.not_next}")
    if entry.integer_ratio and (spec.table_rows[0] - 1) % spec.vocab_size:
        raise UsageError(
            f"policy {entry.name}: stores the ratio as an integer, so it cannot load tables of "
            f"{spec.table_rows[0]} rows at vocab_size {spec.vocab_size}"
        )


def _mode_policy(entry: Implementation, special: SpecialIds) -> Policy:
    assert entry.mode is not None
    if entry.mode in ("exclude", "invalid", "next", "next_inference") and not special.ignored:
        raise UsageError(
            f"policy {entry.name}: needs ignored ids; the config has no oe_ignored_token_ids; "
            "give --ignored, for example 0:4,36:55"
        )
    policy = Policy(documents="none")
    if entry.mode != "no_eos":
        boundaries = tuple(_boundary(entry, special, which) for which in entry.boundaries)
        policy = mode_policy(entry.mode, boundaries[0], special.ignored)
        policy = replace(policy, boundary_tokens=tuple(dict.fromkeys(boundaries)))
    if entry.fill == "pad_id":
        policy = replace(policy, fill=_needed(entry, special.pad, "pad_token_id", "--pad-id"))
    return policy


def _boundary(entry: Implementation, special: SpecialIds, which: int | str) -> int:
    if isinstance(which, int):
        return which
    if which == "eos":
        return _needed(entry, special.eos, "eos_token_id", "--eos")
    return _needed(entry, special.pad, "pad_token_id", "--pad-id")


def _needed(entry: Implementation, value: int | None, key: str, option: str) -> int:
    if value is None:
        raise UsageError(f"policy {entry.name}: the config has no {key}; give {option} ID")
    return value
