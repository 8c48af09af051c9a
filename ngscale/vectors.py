"""Files of test vectors: row ids that an implementation of a hash must reproduce.

A file is ``{"vectors": [...]}``; an entry has ``scheme``, ``config``, ``tokens`` and
``ids[position][table]`` (a flat list for a scheme with one table; null where the look-up is
bypassed), and may have ``table_sizes``, ``lookup_mask`` (false where the row reads as the zero
vector) and ``divide_by_13`` (positions at which word embedding and rows are averaged).
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.config_reader import ConfigReader, read_config, told
from ngscale.errors import InputError, SpecError
from ngscale.families import engram_spec, force_prime, over_encoding_spec, qwen_spec
from ngscale.hashing.definition import averaged_exact, read_rows_exact, row_ids_exact
from ngscale.ngram_config import read_explicit, spec_json
from ngscale.policy import Policy, Start, mode_policy, parse_ranges
from ngscale.row_counts import (
    consecutive_primes,
    engram_rows,
    longcat_rows,
    marin_rows,
    qwen_rows,
)
from ngscale.spec import NgramSpec, PolynomialHash, XorHash, order_major

EXPORT_SCHEME = "ngscale"
"""Vectors this project writes: ``config`` is the spec itself, field by field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One entry, and the spec its config means."""

    scheme: str
    spec: NgramSpec
    tokens: list[int]
    ids: list[list[int | None]]
    segments: list[int] | None
    dead: list[bool] | None
    lookup_mask: list[list[bool]] | None
    averaged: list[bool] | None
    problem: str | None
    """What its stated sizes or multipliers contradict, if anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first thing that is not as the vector says."""

    what: str
    position: int | None
    table: int | None
    expected: Any
    computed: Any


def read_vectors(path: Path) -> list[Vector]:
    """Every entry of a file of vectors.

    Raises:
        InputError: the file is not such a file; names the entry and the key.
    """
    entries = read_config(path).values.get("vectors")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: vectors: must be a list of vectors, at least one")
    return [_read_vector(entry, f"{path}: vectors[{i}]") for i, entry in enumerate(entries)]


def _read_vector(entry: Any, source: str) -> Vector:
    if not isinstance(entry, dict):
        raise InputError(f"{source}: must be an object, got {told(entry)}")
    reader = ConfigReader(entry, source)
    scheme = reader.values.get("scheme")
    if not isinstance(scheme, str) or scheme not in _SPECS:
        raise reader.fail("scheme", f"{told(scheme)} is not known; known: {_known()}")
    config = reader.object("config")
    try:
        spec = _SPECS[scheme](config)
    except SpecError as error:
        raise InputError(f"{source}: config: {error}") from error
    tokens = list(reader.wholes("tokens", minimum=0, maximum=2**32 - 1))
    if tokens and max(tokens) > spec.largest_id:
        raise reader.fail("tokens", f"{max(tokens)} cannot be hashed: {spec.largest_id} at most")
    ids = _ids(reader, spec, len(tokens))
    return Vector(
        scheme=scheme,
        spec=spec,
        tokens=tokens,
        ids=ids,
        segments=_per_position(config, "segments", int, len(tokens)),
        dead=_per_position(config, "dead", bool, len(tokens)),
        lookup_mask=_mask(reader, len(tokens), spec.num_tables),
        averaged=_per_position(reader, "divide_by_13", bool, len(tokens)),
        problem=_contradiction(reader, config, spec),
    )


def _known() -> str:
    return ", ".join(sorted(_SPECS))


def _ids(reader: ConfigReader, spec: NgramSpec, num_tokens: int) -> list[list[int | None]]:
    ids = reader.values.get("ids")
    if not isinstance(ids, list) or len(ids) != num_tokens:
        raise reader.fail("ids", f"must be a list of {num_tokens} positions, one for each token")
    rows = [entry if isinstance(entry, list) else [entry] for entry in ids]
    for position, row in enumerate(rows):
        if len(row) != spec.num_tables:
            raise reader.fail(
                f"ids[{position}]", f"must have {spec.num_tables} tables, got {len(row)}"
            )
        for table, entry in enumerate(row):
            largest = spec.table_rows[table] - 1 + spec.reserved_rows
            if entry is not None and (type(entry) is not int or not 0 <= entry <= largest):
                raise reader.fail(
                    f"ids[{position}][{table}]",
                    f"must be 0..{largest} or null, got {told(entry)}",
                )
    return rows


def _per_position(reader: ConfigReader, key: str, kind: type, number: int) -> Any:
    values = reader.values.get(key)
    if values is None:
        return None
    if (
        not isinstance(values, list)
        or len(values) != number
        or any(type(value) is not kind for value in values)
    ):
        raise reader.fail(key, f"must be a list of {number} {kind.__name__} values")
    return values


def _mask(reader: ConfigReader, num_tokens: int, num_tables: int) -> list[list[bool]] | None:
    rows: list[list[bool]] | None = _per_position(reader, "lookup_mask", list, num_tokens)
    for row in rows or []:
        if len(row) != num_tables or any(type(value) is not bool for value in row):
            raise reader.fail("lookup_mask", f"needs {num_tables} booleans at every position")
    return rows


def _contradiction(reader: ConfigReader, config: ConfigReader, spec: NgramSpec) -> str | None:
    stated = {"table_sizes": reader.wholes("table_sizes", default=())}
    primes = config.values.get("primes", [])
    if not isinstance(primes, list) or not all(isinstance(sizes, list) for sizes in primes):
        raise config.fail("primes", "must be a list of lists, an order each")
    stated["primes"] = tuple(size for sizes in primes for size in sizes)
    for key, sizes in stated.items():
        if sizes and sizes != spec.table_rows:
            return f"{key} are {list(sizes)}, the rule gives {list(spec.table_rows)}"
    multipliers = config.wholes("multipliers", maximum=2**63 - 1, default=())
    if multipliers and isinstance(spec.hash, XorHash) and multipliers != spec.hash.multipliers:
        return f"multipliers are {list(multipliers)}, the rule gives {list(spec.hash.multipliers)}"
    return None


def check_vector(vector: Vector) -> Difference | None:
    """Compute a vector's ids by the exact definition; the first difference, or None."""
    if vector.problem is not None:
        return Difference(
            what=vector.problem, position=None, table=None, expected=None, computed=None
        )
    spec, tokens = vector.spec, vector.tokens
    ids = row_ids_exact(tokens, spec, segments=vector.segments, dead=vector.dead)
    found = _first("ids", vector.ids, ids)
    if found is None and vector.lookup_mask is not None:
        read = read_rows_exact(tokens, spec, segments=vector.segments, dead=vector.dead)
        found = _first("lookup_mask", vector.lookup_mask, read)
    if found is None and vector.averaged is not None:
        averaged = [[value] for value in averaged_exact(tokens, spec)]
        found = _first("divide_by_13", [[value] for value in vector.averaged], averaged)
    return found


def _first(what: str, expected: list[Any], computed: list[Any]) -> Difference | None:
    for position, (wanted, found) in enumerate(zip(expected, computed, strict=True)):
        for table, (one, other) in enumerate(zip(wanted, found, strict=True)):
            if one != other:
                return Difference(
                    what=what, position=position, table=table, expected=one, computed=other
                )
    return None


def export_vectors(spec: NgramSpec, number: int, seed: int, *, length: int = 32) -> dict[str, Any]:
    """``number`` vectors of ``spec``: random tokens, a quarter of them ids a policy minds.

    A pure function of its arguments; the file checks itself by ``check_vector``.
    """
    rng = random.Random(seed)
    special = [0, spec.vocab_size - 1, *spec.policy.boundary_tokens]
    special += [token for first, end in spec.policy.ignored_tokens for token in (first, end - 1)]
    vectors = []
    for _ in range(number):
        tokens = [
            rng.choice(special) if rng.random() < 0.25 else rng.randrange(spec.vocab_size)
            for _ in range(length)
        ]
        vector = {
            "scheme": EXPORT_SCHEME,
            "config": spec_json(spec),
            "tokens": tokens,
            "ids": row_ids_exact(tokens, spec),
            "table_sizes": list(spec.table_rows),
        }
        if spec.policy.row_zero != "row":
            vector["lookup_mask"] = read_rows_exact(tokens, spec)
        vectors.append(vector)
    return {"about": "Local row ids per position (outer list) and table.", "vectors": vectors}


def _longcat(config: ConfigReader, mode: str) -> NgramSpec:
    is_next = mode == "next"
    vocab_size = config.whole("text_vocab" if is_next else "vocab", minimum=2)
    orders = order_major(config.whole("n", minimum=2), config.whole("k"))
    eos = config.whole("eos", minimum=-1)
    ignored = _ranges(config)
    if mode == "exclude" and eos == -1:
        policy = Policy(ignored_tokens=ignored, ignored_rule="exclude")
    else:
        policy = mode_policy(mode, None if eos < 0 else eos, ignored)
    return NgramSpec(
        hash=PolynomialHash(base=vocab_size),
        vocab_size=vocab_size,
        table_orders=orders,
        table_rows=longcat_rows(config.number("ratio"), vocab_size, len(orders)),
        row_family="longcat",
        policy=policy,
    )


def _ranges(config: ConfigReader) -> tuple[tuple[int, int], ...]:
    """Ignored ids as a list, as "first:end" or as "0:4,36:55"."""
    value = config.values.get("special_token_scope", config.values.get("ignored"))
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple((token, token + 1) for token in config.wholes("ignored", minimum=0))
    ranges = parse_ranges(value) if isinstance(value, str) else None
    if ranges is None:
        raise config.fail("ignored", f'must be like "0:4,36:55", got {told(value)}')
    return ranges


def _nanbeige(config: ConfigReader) -> NgramSpec:
    vocab_size = config.whole("vocab", minimum=2)
    orders = order_major(config.whole("n", minimum=2), config.whole("k"))
    (base,) = consecutive_primes(vocab_size, 1)
    if config.whole("hash_base", default=base) != base:
        raise config.fail("hash_base", f"the next prime above {vocab_size} is {base}")
    ratio = config.number("ratio")
    spec = NgramSpec(
        hash=PolynomialHash(base=vocab_size),
        vocab_size=vocab_size,
        table_orders=orders,
        table_rows=longcat_rows(ratio, vocab_size, len(orders)),
        policy=mode_policy("hf", config.whole("eos", minimum=0)),
    )
    return force_prime(spec, ratio * vocab_size)


def _over_encoding(config: ConfigReader) -> NgramSpec:
    if any(config.wholes("history", minimum=0, default=())):
        raise config.fail("history", "only zeros, the start of a sequence, are understood")
    return over_encoding_spec(
        vocab_size=config.whole("vocab", minimum=2),
        table_orders=config.wholes("grams", minimum=2),
        table_rows=config.wholes("sizes"),
    )


def _marin(config: ConfigReader) -> NgramSpec:
    orders = order_major(config.whole("n", minimum=2), config.whole("k"))
    vocab_size = config.whole("vocab", minimum=2)
    return NgramSpec(
        hash=PolynomialHash(base=vocab_size, arithmetic="uint32"),
        vocab_size=vocab_size,
        table_orders=orders,
        table_rows=marin_rows(config.whole("base_rows"), len(orders)),
        row_family="base_plus_2i",
        policy=Policy(documents="segment_ids"),
        fusion="sum",
        word_scale="none",
    )


def _engram(config: ConfigReader, *, released: bool) -> NgramSpec:
    max_order, heads = config.whole("max_ngram", minimum=2), config.whole("heads")
    order_major(max_order, heads)  # refuses what the search for primes would not end with
    layers, layer = config.wholes("layer_ids", minimum=0), config.whole("layer", minimum=0)
    if layer not in layers:
        raise config.fail("layer", f"{layer} is none of layer_ids {list(layers)}")
    sizes = config.values.get("engram_vocab_size")
    if isinstance(sizes, list):
        per_order = list(config.wholes("engram_vocab_size"))
    else:
        per_order = [config.whole("engram_vocab_size")] * (max_order - 1)
    return engram_spec(
        layer=layer,
        seed=config.whole("seed", minimum=0, default=0),
        compressed_vocab=config.whole("compressed_vocab", minimum=2),
        max_order=max_order,
        heads=heads,
        table_rows=engram_rows(per_order, heads, len(layers))[layers.index(layer)],
        fill=config.whole("pad_id_compressed", minimum=0),
        released=released,
    )


def _qwen(config: ConfigReader) -> NgramSpec:
    max_order, heads = config.whole("ngram", minimum=2), config.whole("heads")
    num_tables = len(order_major(max_order, heads))
    return qwen_spec(
        ple_layer=0,
        seed=config.whole("seed", minimum=0),
        vocab_size=config.whole("vocab", minimum=2),
        max_order=max_order,
        heads=heads,
        table_rows=qwen_rows(config.whole("base", minimum=2), 0, num_tables),
        boundary=config.whole("eos", minimum=0),
    )


def _modded(config: ConfigReader, start: Start) -> NgramSpec:
    return NgramSpec(
        hash=XorHash(multipliers=(36313, 27191), arithmetic="int32"),
        vocab_size=config.whole("vocab", minimum=2),
        table_orders=(2,),
        table_rows=(config.whole("table_rows", minimum=2) - 1,),
        reserved_rows=1,
        row_family="single",
        policy=Policy(start=start, documents="none"),
        fusion="added",
        word_scale="none",
    )


def _sign_rows(config: ConfigReader) -> NgramSpec:
    """Rows of signs that multiply the bigram's row: ``(t_(p-1) xor t_p) mod rows``."""
    return NgramSpec(
        hash=XorHash(multipliers=(1, 1), arithmetic="int32"),
        vocab_size=2**31 - 1,
        table_orders=(2,),
        table_rows=(config.whole("rows"),),
        row_family="single",
        policy=Policy(start="row_zero", documents="none"),
        fusion="added",
        word_scale="none",
    )


def _blt(config: ConfigReader) -> NgramSpec:
    prime = config.whole("prime", minimum=2, maximum=2**63 - 1)
    return NgramSpec(
        hash=PolynomialHash(base=prime, arithmetic="int64", oldest_first=True),
        vocab_size=260,
        table_orders=(config.whole("group_size", minimum=2),),
        table_rows=(config.whole("rows"),),
        row_family="single",
        policy=Policy(documents="none"),
        fusion="added",
        word_scale="none",
    )


def _mode(mode: str) -> Callable[[ConfigReader], NgramSpec]:
    return lambda config: _longcat(config, mode)


_SPECS: Mapping[str, Callable[[ConfigReader], NgramSpec]] = {
    **{
        f"longcat/{mode}": _mode(mode)
        for mode in ("hf", "no_eos", "vllm_neg", "exclude", "invalid")
    },
    "longcat_next": _mode("next"),
    "nanbeige/force_prime": _nanbeige,
    "oe": _over_encoding,
    "marin_oe": _marin,
    "engram/demo_v1": lambda config: _engram(config, released=False),
    "engram/v4.1": lambda config: _engram(config, released=True),
    "qwen4_ple": _qwen,
    "modded_nanogpt/modded": lambda config: _modded(config, "reserved_row"),
    "modded_nanogpt/golf": lambda config: _modded(config, "reserved_row_kept"),
    "modded_nanogpt/sign_rows": _sign_rows,
    "blt": _blt,
    EXPORT_SCHEME: lambda config: read_explicit(
        ConfigReader({"ngscale": config.values}, config.source)
    ),
}
