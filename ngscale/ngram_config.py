"""The n-gram tables a Hugging Face config.json describes, family by family; and their JSON.

What the HF keys of a family cannot say stands in an extension block, ``"ngscale": {...}``; a
config of ``model_type`` "ngscale_ngram" is that block alone. Standard library only.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from ngscale.config_reader import ConfigReader, read_config, told
from ngscale.errors import InputError, SpecError
from ngscale.families import engram_spec, force_prime, over_encoding_spec, qwen_spec
from ngscale.policy import MODES, Policy, merge_ranges, mode_policy, parse_ranges
from ngscale.row_counts import engram_rows, longcat_rows, qwen_rows
from ngscale.spec import (
    MAX_ORDER,
    MAX_SUBTABLES,
    MAX_TABLE_ROWS,
    Hash,
    NgramSpec,
    PolynomialHash,
    RowFamily,
    XorHash,
    check_rows,
    longcat_spec,
)

EXTENSION_KEY = "ngscale"
NGRAM_MODEL_TYPE = "ngscale_ngram"

_LONGCAT_KEYS = {
    "ratio": ("ngram_vocab_size_ratio", "oe_vocab_size_ratio"),
    "max_order": ("emb_neighbor_num", "oe_neighbor_num"),
    "num_subtables": ("emb_split_num", "oe_split_num"),
}
"""Aliases: Flash-Lite's keys first, then LongCat-2.0's (SGLang ``LongcatFlashProConfig``)."""
_EXTENSION_KEYS = (
    *("table_rows", "policy", "amplification", "amplification_factor", "word_scale"),
    "row_multiple",
)


LONGCAT_ARCHITECTURES = (
    "LongcatFlashForCausalLM",
    "LongcatFlashNgramForCausalLM",
    "LongcatCausalLM",
    "LongcatNextForCausalLM",
)
LONGCAT_MODEL_TYPES = ("longcat_flash", "longcat_flash_ngram", "longcat_next")
DECODER_MODEL_TYPE = "ngscale_moe"
QWEN_MODEL_TYPES = ("qwen4_exp", "qwen4_exp_text")
_FAMILY_KEYS = (
    tuple(key for aliases in _LONGCAT_KEYS.values() for key in aliases),
    ("engram_layer_ids", "engram_vocab_size"),
    ("oe_grams", "oe_vocab_sizes"),
    ("ple_layer_ids", "heads_per_ngram", "ngram_vocab_size_base"),
)
"""Keys of the hashes, of which a config can have one."""
NGRAM_KEYS = (
    *(key for keys in _FAMILY_KEYS for key in keys),
    "engram_compressed_vocab_size",
    "engram_head_dim",
    "engram_max_ngram_size",
    "engram_n_heads",
    "engram_num_embeddings",
    "engram_pad_token_id",
    "engram_seed",
    EXTENSION_KEY,
)
"""Without these a config has no n-gram tables, unless they are within ``text_config``."""


def read_specs(path: Path) -> tuple[NgramSpec, ...]:
    """The n-gram tables of a config.json: one spec, or one for every layer that has tables.

    Raises:
        InputError: the file is no config.json, its family is not known, it has no n-gram tables,
            or it leaves something undecided; names the file, the key and the value.
    """
    return specs_of(read_config(path))


def specs_of(reader: ConfigReader) -> tuple[NgramSpec, ...]:
    """The same of a config.json that is read already."""
    try:
        specs = _read_family(reader)
    except SpecError as error:
        raise InputError(f"{reader.source}: {error}") from error
    if not specs:
        raise InputError(f"{reader.source}: this model has no n-gram tables")
    return specs


def specs_if_any(reader: ConfigReader) -> tuple[NgramSpec, ...]:
    """As ``specs_of``, but none where no key of any hash is set."""
    none_set = all(reader.first_set(keys) is None for keys in _FAMILY_KEYS)
    if none_set and reader.model_type not in QWEN_MODEL_TYPES and not explicit_blocks(reader):
        if EXTENSION_KEY in reader.values:
            raise reader.fail(EXTENSION_KEY, "is set, but the n-gram keys it extends are not")
        return ()
    try:
        return _read_family(reader)
    except SpecError as error:
        raise InputError(f"{reader.source}: {error}") from error


def _read_family(reader: ConfigReader) -> tuple[NgramSpec, ...]:
    kind = reader.model_type
    named = [reader.first_set(keys) for keys in _FAMILY_KEYS]
    if len(keys := [key for key in named if key is not None]) > 1:
        raise reader.fail(" and ".join(keys), "belong to different hashes; keep one")
    if kind == NGRAM_MODEL_TYPE:
        return (read_explicit(reader),)
    if blocks := explicit_blocks(reader):
        if keys:
            raise reader.fail(f"{keys[0]} and {EXTENSION_KEY}.ngrams", "both say tables; keep one")
        return tuple(_read_block(block, ("conv_kernel",)) for block in blocks)
    if kind in QWEN_MODEL_TYPES:
        return read_qwen(reader.object("text_config") if "text_config" in reader.values else reader)
    if "text_config" in reader.values and not keys:
        raise reader.fail(
            "text_config", "n-gram keys are read from the top of this config, not here"
        )
    if "engram_layer_ids" in reader.values or "engram_vocab_size" in reader.values:
        return read_engram(reader)
    if "oe_grams" in reader.values:
        return (read_over_encoding(reader),)
    if kind == "nanbeige":
        spec = read_nanbeige(reader)
    elif is_longcat(reader) or kind == DECODER_MODEL_TYPE or named[0] is not None:
        spec = read_longcat(reader)
    else:
        known = (*LONGCAT_MODEL_TYPES, "nanbeige", *QWEN_MODEL_TYPES, NGRAM_MODEL_TYPE)
        raise reader.unknown_family((*known, DECODER_MODEL_TYPE))
    return () if spec is None else (spec,)


def is_longcat(reader: ConfigReader) -> bool:
    """Whether the config is of the LongCat-Flash family, by model_type or architecture."""
    named = any(name in LONGCAT_ARCHITECTURES for name in reader.architectures)
    return reader.model_type in LONGCAT_MODEL_TYPES or named


def read_longcat(reader: ConfigReader) -> NgramSpec | None:
    """The tables of a LongCat config, or of ngscale's own decoder; None where it has none.

    Raises:
        InputError, SpecError: names the key, its value and what is expected.
    """
    extension = _extension(reader, _EXTENSION_KEYS)
    ratio_key, order_key, split_key = (reader.one_of(keys) for keys in _LONGCAT_KEYS.values())
    if ratio_key is None and order_key is None and split_key is None:
        if extension:
            raise reader.fail(EXTENSION_KEY, "is set, but the n-gram keys it extends are not")
        return None
    if order_key is None or split_key is None:
        missing = _LONGCAT_KEYS["max_order" if order_key is None else "num_subtables"]
        raise reader.fail(" or ".join(missing), "is missing, but other n-gram keys are set")
    max_order = reader.whole(order_key, minimum=2, maximum=MAX_ORDER)
    num_subtables = reader.whole(split_key)
    num_tables = (max_order - 1) * num_subtables
    check_num_tables(num_tables, hidden_size=reader.whole("hidden_size"))
    reader.whole(split_key, maximum=MAX_SUBTABLES // (max_order - 1))
    is_next = "text_vocab_size" in reader.values
    vocab_size = reader.whole("text_vocab_size" if is_next else "vocab_size", minimum=2)
    rows, family = _longcat_rows(reader, extension, ratio_key, vocab_size, num_tables)
    rows_key = ratio_key if family == "longcat" else f"{EXTENSION_KEY}.table_rows"
    _check_rows(reader, str(rows_key), rows, hash_base=vocab_size, max_order=max_order)
    spec = longcat_spec(
        vocab_size=vocab_size,
        max_order=max_order,
        num_subtables=num_subtables,
        table_rows=rows,
        row_family=family,
        policy=_policy(reader, extension.get("policy", "next" if is_next else "hf"), vocab_size),
        amplification=extension.get("amplification", "none"),
    )
    return dataclasses.replace(
        spec,
        amplification_factor=_block(reader, extension).number("amplification_factor", default=1.0),
        word_scale=extension.get("word_scale", "mean"),
        row_multiple=_block(reader, extension).whole("row_multiple", default=1),
    )


def without_tables(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without keys of n-gram tables, of any hash."""
    return {key: value for key, value in config.items() if key not in NGRAM_KEYS}


def with_longcat_tables(
    config: Mapping[str, Any],
    *,
    ratio: float,
    max_order: int,
    num_subtables: int,
) -> dict[str, Any]:
    """A config without tables and LongCat's: Flash-Lite's keys; the extension block where needed.

    Without an ``eos_token_id`` that is one id, no n-gram ends at a document (policy ``no_eos``).
    """
    values = {"ratio": ratio, "max_order": max_order, "num_subtables": num_subtables}
    keys = {_LONGCAT_KEYS[name][0]: value for name, value in values.items()}
    ends = isinstance(config.get("eos_token_id"), int)
    return {**config, **keys, **({} if ends else {EXTENSION_KEY: {"policy": "no_eos"}})}


def _check_rows(
    reader: ConfigReader, key: str, rows: Iterable[int], *, hash_base: int = 2, max_order: int = 2
) -> None:
    """Refuse the sizes that the value of ``key`` gives, by its name."""
    try:
        for size in rows:
            check_rows(size, hash_base=hash_base, max_order=max_order)
    except SpecError as error:
        raise reader.fail(key, f"{told(reader.values.get(key))}: {error}") from error


def _longcat_rows(
    reader: ConfigReader,
    extension: Mapping[str, Any],
    ratio_key: str | None,
    vocab_size: int,
    num_tables: int,
) -> tuple[tuple[int, ...], RowFamily]:
    if "table_rows" in extension:
        return _block(reader, extension).wholes("table_rows"), "explicit"
    if ratio_key is None:
        raise reader.fail(
            " or ".join(_LONGCAT_KEYS["ratio"]),
            f"is missing, and {EXTENSION_KEY}.table_rows does not give the sizes either",
        )
    return longcat_rows(reader.number(ratio_key), vocab_size, num_tables), "longcat"


def check_num_tables(num_tables: int, *, hidden_size: int) -> None:
    """Refuse more tables than the hidden size has columns for.

    Raises:
        SpecError: names both numbers.
    """
    if num_tables > hidden_size:
        raise SpecError(f"{num_tables} tables leave no width in hidden_size {hidden_size}")


def _policy(reader: ConfigReader, given: Any, vocab_size: int) -> Policy:
    """The policy of a LongCat config: a mode by name, or every field in an object."""
    if isinstance(given, dict):
        return _policy_from(ConfigReader(given, reader.source, f"{EXTENSION_KEY}.policy."))
    if not isinstance(given, str) or given not in MODES:
        raise reader.fail(f"{EXTENSION_KEY}.policy", f"must be an object or {', '.join(MODES)}")
    if given == "no_eos":
        return mode_policy(given, None)
    boundary = reader.whole("eos_token_id", minimum=0, maximum=vocab_size - 1)
    return mode_policy(given, boundary, ignored_ranges(reader))


def ignored_ranges(reader: ConfigReader) -> tuple[tuple[int, int], ...]:
    """``oe_ignored_token_ids``, a list, as half-open ranges, or TokenSpeed's ``"0:4,36:55"``."""
    key = "special_token_scope"
    if key not in reader.values:
        ids = reader.wholes("oe_ignored_token_ids", minimum=0, default=())
        return merge_ranges((token, token + 1) for token in ids)
    scope = reader.values[key]
    ranges = parse_ranges(scope) if isinstance(scope, str) else None
    if ranges is None:
        raise reader.fail(key, f'must be like "0:4,36:55", got {told(scope)}')
    if any(first >= end for first, end in ranges):
        raise reader.fail(key, f"has an empty range, got {told(scope)}")
    return ranges


def read_nanbeige(reader: ConfigReader) -> NgramSpec | None:
    """Nanbeige4.2's options (remote code of Nanbeige4.2-3B); None where they are all off."""
    spec = read_longcat(reader)
    if spec is None:
        return None
    wants_primes = reader.flag("ngram_mod_force_prime")
    fusion = reader.values.get("ngram_fused_mode", "average")
    if fusion not in ("average", "concat"):
        raise reader.fail("ngram_fused_mode", f'must be "average" or "concat", got {fusion!r}')
    if reader.values.get("ngram_compressed_tokenizer"):
        raise reader.fail("ngram_compressed_tokenizer", "which ids are hashed is undecided")
    layers = reader.wholes("insert_ngram_layer_idx", minimum=0, default=())
    spec = dataclasses.replace(
        spec,
        row_multiple=reader.whole("emb_tp_num", default=1, null=True),
        fusion="average" if fusion == "average" else "concat_rows",
        word_scale="mean" if fusion == "average" else "none",
        layers=layers,
    )
    if not wants_primes:
        return spec
    ratio_key = reader.one_of(_LONGCAT_KEYS["ratio"])
    if ratio_key is None:
        raise reader.fail("ngram_mod_force_prime", "needs ngram_vocab_size_ratio")
    size = reader.number(ratio_key) * spec.vocab_size
    _check_rows(reader, ratio_key, (int(size),))
    return force_prime(spec, size)


def read_engram(reader: ConfigReader) -> tuple[NgramSpec, ...]:
    """DeepSeek-V4.1's ``engram_*`` keys, or those of ``engram_demo_v1.py``: a spec per layer.

    The multipliers depend on the number of compressed ids, which a demo config cannot say; the
    extension block has ``compressed_vocab`` and ``fill``, the compressed id of the pad token.
    """
    extension = _extension(reader, ("compressed_vocab", "fill"))
    block = _block(reader, extension)
    released = "engram_layer_ids" in reader.values
    if released:
        layers_key, heads_key = "engram_layer_ids", "engram_n_heads"
        max_order = reader.whole("engram_max_ngram_size", minimum=2, maximum=MAX_ORDER)
        sizes = [reader.whole("engram_vocab_size")] * (max_order - 1)
        heads, width = reader.whole(heads_key), reader.whole("engram_head_dim")
        compressed = reader.whole("engram_compressed_vocab_size", minimum=2)
        seed = reader.whole("engram_seed", minimum=0, default=0)
    else:
        layers_key, heads_key = "layer_ids", "n_head_per_ngram"
        max_order = reader.whole("max_ngram_size", minimum=2, maximum=MAX_ORDER)
        sizes = list(reader.wholes("engram_vocab_size"))
        heads = reader.whole(heads_key)
        width, rest = divmod(reader.whole("n_embed_per_ngram"), heads)
        if rest:
            raise reader.fail("n_embed_per_ngram", f"does not divide by {heads} {heads_key}")
        compressed = block.whole("compressed_vocab", minimum=2)
        seed = reader.whole("seed", minimum=0)
        if len(sizes) != max_order - 1:
            raise reader.fail(
                "engram_vocab_size",
                f"orders 2..{max_order} need {max_order - 1} sizes, got {len(sizes)}",
            )
    layers = reader.wholes(layers_key, minimum=0)
    if len(set(layers)) < len(layers):
        raise reader.fail(layers_key, f"names a layer twice, got {list(layers)}")
    _check_heads(reader, heads_key, (max_order - 1) * heads * len(layers))
    rows = engram_rows(sizes, heads, len(layers))
    _check_rows(reader, "engram_vocab_size", (size for of_layer in rows for size in of_layer))
    if released:
        _check_engram_sums(reader, rows)
    decided = "fill" in extension
    fill = block.whole("fill", minimum=0, maximum=compressed - 1) if decided else None
    return tuple(
        engram_spec(
            layer=layer,
            seed=seed,
            compressed_vocab=compressed,
            max_order=max_order,
            heads=heads,
            table_rows=of_layer,
            fill=fill,
            released=released,
            row_width=width,
        )
        for layer, of_layer in zip(layers, rows, strict=True)
    )


def _check_heads(reader: ConfigReader, key: str, num_tables: int) -> None:
    if num_tables > MAX_SUBTABLES:
        heads = reader.values.get(key)
        raise reader.fail(key, f"{heads} makes {num_tables} tables, above {MAX_SUBTABLES}")


def _check_engram_sums(reader: ConfigReader, rows: tuple[tuple[int, ...], ...]) -> None:
    key = "engram_num_embeddings"
    stated = reader.wholes(key)
    computed = tuple(map(sum, rows))
    if stated != computed:
        raise reader.fail(key, f"the prime rule gives {list(computed)}, got {list(stated)}")


def read_qwen(reader: ConfigReader) -> tuple[NgramSpec, ...]:
    """Qwen3.8's per-layer embedding (``qwen4_exp``): a spec per PLE layer."""
    vocab_size = reader.whole("vocab_size", minimum=2)
    max_order = reader.whole("ngram_size", minimum=2, maximum=MAX_ORDER, default=3)
    heads = reader.whole("heads_per_ngram", default=8)
    layers = sorted(set(reader.wholes("ple_layer_ids", default=())))
    num_tables = (max_order - 1) * heads
    _check_heads(reader, "heads_per_ngram", num_tables * max(1, len(layers)))
    base = reader.whole("ngram_vocab_size_base", default=20_000_000)
    seed = reader.whole("seed", minimum=0, default=1234)
    width = reader.whole("ple_embed_dim") if reader.values.get("ple_embed_dim") else None
    if width is None:
        width = reader.whole("hidden_size")
    row_multiple = reader.whole("make_ngram_vocab_size_divisible_by", default=128)
    if not layers:
        return ()
    if width % num_tables:
        raise reader.fail("ple_embed_dim", f"{width} does not divide by {num_tables} heads")
    depth = reader.whole("num_hidden_layers", default=MAX_TABLE_ROWS)
    if layers[-1] > depth:
        raise reader.fail("ple_layer_ids", f"counts from 1 to {depth}, got {layers[-1]}")
    # The first of a list is the text's end (modeling_qwen4_exp.py).
    if isinstance(reader.values.get("eos_token_id"), list):
        boundary = reader.wholes("eos_token_id", minimum=0, maximum=vocab_size - 1)[0]
    else:
        boundary = reader.whole("eos_token_id", minimum=0, maximum=vocab_size - 1)
    rows = [qwen_rows(base, index, num_tables) for index in range(len(layers))]
    _check_rows(reader, "ngram_vocab_size_base", (size for of_layer in rows for size in of_layer))
    return tuple(
        dataclasses.replace(
            qwen_spec(
                ple_layer=index,
                seed=seed,
                vocab_size=vocab_size,
                max_order=max_order,
                heads=heads,
                table_rows=rows[index],
                boundary=boundary,
            ),
            row_multiple=row_multiple,
            padded_together=True,
            row_width=width // num_tables,
            layers=(layer - 1,),
        )
        for index, layer in enumerate(layers)
    )


def read_over_encoding(reader: ConfigReader) -> NgramSpec:
    """``oe_grams`` and ``oe_vocab_sizes`` (arXiv:2501.16975; mojo_opset): any orders, any sizes."""
    orders = reader.wholes("oe_grams", minimum=2, maximum=MAX_ORDER)
    rows = reader.wholes("oe_vocab_sizes")
    if len(orders) != len(rows):
        raise reader.fail("oe_vocab_sizes", f"needs {len(orders)} sizes, got {len(rows)}")
    vocab_size = reader.whole("vocab_size", minimum=2)
    _check_rows(reader, "oe_vocab_sizes", rows, hash_base=vocab_size, max_order=max(orders))
    return over_encoding_spec(vocab_size=vocab_size, table_orders=orders, table_rows=rows)


def read_explicit(reader: ConfigReader) -> NgramSpec:
    """The extension block alone: every field of ``NgramSpec`` by its name (``spec_json``)."""
    return _read_block(_block(reader, _extension(reader, tuple(_SPEC_FIELDS))))


def explicit_blocks(reader: ConfigReader) -> list[ConfigReader]:
    """The tables of ngscale's own decoder where they are not LongCat's: one object each."""
    extension = reader.values.get(EXTENSION_KEY)
    is_own = reader.model_type == DECODER_MODEL_TYPE
    if not is_own or not isinstance(extension, dict) or "ngrams" not in extension:
        return []
    block = _block(reader, _extension(reader, ("ngrams",)))
    values = extension["ngrams"]
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise block.fail("ngrams", "must be a list of objects")
    return [
        ConfigReader(value, reader.source, f"{EXTENSION_KEY}.ngrams[{index}].")
        for index, value in enumerate(values)
    ]


def _read_block(block: ConfigReader, others: tuple[str, ...] = ()) -> NgramSpec:
    block.only((*_SPEC_FIELDS, *others))
    for field in ("hash", "vocab_size", "table_orders", "table_rows", "policy"):
        if field not in block.values:
            raise block.fail(field, "is missing; it is undecided otherwise")
    values: dict[str, Any] = {
        field: read(block, field)
        for field, read in _SPEC_FIELDS.items()
        if field in block.values and (block.values[field] is not None or field not in _NULLABLE)
    }
    return NgramSpec(**values)


_NULLABLE = ("compressed_vocab", "row_width")


def spec_json(spec: NgramSpec) -> dict[str, Any]:
    """Every field of ``spec`` by its name; ``read_explicit`` gives it back."""
    return {
        "hash": {"kind": _HASH_KINDS[type(spec.hash)], **dataclasses.asdict(spec.hash)},
        **{
            field.name: getattr(spec, field.name)
            for field in dataclasses.fields(NgramSpec)
            if field.name not in ("hash", "policy")
        },
        "policy": dataclasses.asdict(spec.policy),
    }


_HASH_KINDS: dict[type, str] = {PolynomialHash: "polynomial", XorHash: "multiply_xor"}


def _hash_from(block: ConfigReader, key: str) -> Hash:
    inner = block.object(key)
    kind = inner.values.get("kind")
    if kind == "polynomial":
        inner.only(("kind", "base", "table_bases", "arithmetic", "oldest_first"))
        return PolynomialHash(
            base=inner.whole("base", minimum=2, maximum=2**63 - 1),
            table_bases=inner.wholes("table_bases", minimum=2, maximum=2**63 - 1, default=()),
            arithmetic=inner.word("arithmetic", ("exact", "uint32", "int64")),
            oldest_first=inner.flag("oldest_first"),
        )
    if kind == "multiply_xor":
        inner.only(("kind", "multipliers", "arithmetic"))
        return XorHash(
            multipliers=inner.wholes("multipliers", maximum=2**63 - 1),
            arithmetic=inner.word("arithmetic", ("exact", "int32")),
        )
    raise inner.fail("kind", f'must be "polynomial" or "multiply_xor", got {told(kind)}')


def _policy_from(inner: ConfigReader) -> Policy:
    words = {
        field.name: get_args(field.type)
        for field in dataclasses.fields(Policy)
        if get_args(field.type) and isinstance(get_args(field.type)[0], str)
    }
    inner.only(tuple(field.name for field in dataclasses.fields(Policy)))
    values: dict[str, Any] = {
        name: inner.word(name, known) for name, known in words.items() if name in inner.values
    }
    if inner.values.get("boundary_tokens", []) != []:
        values["boundary_tokens"] = inner.wholes("boundary_tokens", minimum=0)
    if "fill" in inner.values:
        fill = inner.values["fill"]
        values["fill"] = None if fill is None else inner.whole("fill", minimum=0)
    ranges = inner.values.get("ignored_tokens", [])
    if not isinstance(ranges, list) or not all(map(_is_pair, ranges)):
        raise inner.fail("ignored_tokens", "must be a list of [first, end] pairs")
    values["ignored_tokens"] = tuple((first, end) for first, end in ranges)
    return Policy(**values)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(x) is int for x in value)


_SPEC_FIELDS: dict[str, Callable[[ConfigReader, str], Any]] = {
    "hash": _hash_from,
    "vocab_size": lambda block, key: block.whole(key, minimum=2),
    "table_orders": lambda block, key: block.wholes(key),
    "table_rows": lambda block, key: block.wholes(key),
    "policy": lambda block, key: _policy_from(block.object(key)),
    "row_family": lambda block, key: block.values[key],
    "reserved_rows": lambda block, key: block.whole(key, minimum=0, maximum=1),
    "row_multiple": lambda block, key: block.whole(key),
    "padded_together": lambda block, key: block.flag(key),
    "compressed_vocab": lambda block, key: block.whole(key),
    "row_width": lambda block, key: block.whole(key),
    "fusion": lambda block, key: block.values[key],
    "word_scale": lambda block, key: block.values[key],
    "layers": lambda block, key: block.wholes(key, minimum=0) if block.values[key] != [] else (),
    "amplification": lambda block, key: block.values[key],
    "amplification_factor": lambda block, key: block.number(key),
    "placement": lambda block, key: block.values[key],
}


def _extension(reader: ConfigReader, known: tuple[str, ...]) -> dict[str, Any]:
    extension = reader.values.get(EXTENSION_KEY, {})
    if not isinstance(extension, dict):
        raise reader.fail(EXTENSION_KEY, "must be an object")
    _block(reader, extension).only(known)
    return extension


def _block(reader: ConfigReader, extension: Mapping[str, Any]) -> ConfigReader:
    return ConfigReader(extension, reader.source, f"{EXTENSION_KEY}.")
