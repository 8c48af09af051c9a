"""``ngscale ids``: tokens -> rows, two policies -> what differs, a file of vectors -> a verdict."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ngscale import presets
from ngscale.commands.answer import JsonOption, OutOption, TokenizerOption, answer, starting
from ngscale.errors import GateError, UsageError
from ngscale.policy import parse_ranges

if TYPE_CHECKING:
    from ngscale.ids.lookups import Lookups, Tokens


def _policies() -> Iterable[str]:
    from ngscale.presets.policies import implementations

    return implementations()


_complete = starting(presets.with_tables)
_complete_policy = starting(_policies)


def ids(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A preset, a config.json, or a directory that holds one.",
            autocompletion=_complete,
        ),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="ID,...", help="Token ids, the first one first.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text, with --tokenizer.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read ids from stdin, or text with --tokenizer.")
    ] = False,
    tokenizer: TokenizerOption = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Hash as this implementation does: hf, mlx-lm, 'sglang>=0.5.16', sglang==0.5.20, "
            "'vllm<=0.33.0', tokenspeed, ... Default: what the config describes.",
            autocompletion=_complete_policy,
        ),
    ] = None,
    diff: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Also say which positions and tables differ under this policy, and why.",
            autocompletion=_complete_policy,
        ),
    ] = None,
    eos: Annotated[
        int | None,
        typer.Option(metavar="ID", min=0, help="End-of-sequence id of --policy and --diff."),
    ] = None,
    pad_id: Annotated[
        int | None, typer.Option(metavar="ID", min=0, help="Pad id of --policy and --diff.")
    ] = None,
    ignored: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:END,...", help="Ignored ids of --policy and --diff, ends excluded."
        ),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="N,...", help="The document of every position (packed text); -1 is padding."
        ),
    ] = None,
    dead: Annotated[
        str | None,
        typer.Option(metavar="POSITION,...", help="Positions without text, such as images."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="L", min=0, help="Only the tables that layer L reads, from 0."),
    ] = None,
    npy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Save the rows as int64 [positions, tables]; -1 is a bypass."
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Verify a file of vectors instead; exit 7 if any differs."
        ),
    ] = None,
    export: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=10_000,
            help="Print a file of N vectors for a port to be checked against (of every layer).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Seed of --export.")] = 0,
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Which rows a sequence looks up in every table, by whose rules, and where others differ.

    Example: ngscale ids longcat-flash-lite --tokens 11,523,2,7 --diff mlx-lm
    """
    sources = {"--tokens": tokens, "--text": text, "--stdin": stdin or None}
    ways = {**sources, "--check": check, "--export": export}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise UsageError(f"give one of {', '.join(ways)}; got {' and '.join(given) or 'none'}")
    if check is not None:
        _refuse("--check", target=target, policy=policy, diff=diff, npy=npy, layer=layer)
        _check(check, as_json=as_json, out=out)
        return
    if target is None:
        raise UsageError(f"{given[0]} needs a TARGET: a preset or a config.json")

    from ngscale.ids import run
    from ngscale.ids.summary import build_report

    special: dict[str, Any] = {"eos": eos, "pad": pad_id}
    special["ignored"] = None if ignored is None else _id_ranges("--ignored", ignored)
    special = {name: value for name, value in special.items() if value is not None}
    if special and policy is None and diff is None:
        raise UsageError("--eos, --pad-id and --ignored go with --policy or --diff")
    subject = run.load(target, layer=layer, given=special)
    if export is not None:
        _refuse("--export", diff=diff, npy=npy, out=out, tokenizer=tokenizer)
        from ngscale.ids.vector_files import export as export_file
        from ngscale.records import dump_json

        sys.stdout.write(dump_json(export_file(subject, policy, export, seed)))
        sys.stdout.flush()
        return
    if npy is not None and len(subject.specs) > 1:
        layers = ", ".join(str(index) for spec in subject.specs for index in spec.layers)
        raise UsageError(f"--npy: {subject.title} has tables in layers {layers}; give --layer")
    compressed = subject.specs[0].compressed_vocab
    sequence = _tokens(tokens, text, tokenizer, segments, dead, compressed)
    record, found = run.rows_record(subject, sequence, policy, diff)
    if npy is not None:
        _save(npy, found[0])
    answer(record, build_report(record), as_json=as_json, out=out)


def _refuse(way: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            what = "TARGET" if name == "target" else f"--{name}"
            raise UsageError(f"{way}: takes no {what}")


def _check(path: Path, *, as_json: bool, out: Path | None) -> None:
    from ngscale.ids.summary import check_report
    from ngscale.ids.vector_files import check_record

    record = check_record(path)
    answer(record, check_report(record), as_json=as_json, out=out)
    if record.results["num_differ"]:
        raise GateError(
            f"{path}: {record.results['num_differ']} of {record.results['num_vectors']} differ"
        )


def _tokens(
    tokens: str | None,
    text: str | None,
    tokenizer: str | None,
    segments: str | None,
    dead: str | None,
    compressed: int | None,
) -> "Tokens":
    """The sequence of one of the three options; with neither ids nor text given, stdin's."""
    from ngscale.ids.lookups import Tokens

    source = "--tokens"
    if tokens is None and text is None:
        source, content = "--stdin", sys.stdin.read()
        tokens, text = (content, None) if tokenizer is None else (None, content)
    if text is not None:
        found = _encode(text, tokenizer, compressed)
    else:
        if tokenizer is not None:
            raise UsageError("--tokenizer goes with --text or --stdin; --tokens are ids already")
        found = _wholes(source, tokens or "")
    if not found:
        raise UsageError(f"{source if text is None else '--text'}: holds no token")
    documents = None if segments is None else _wholes("--segments", segments, minimum=-1)
    if documents is not None and len(documents) != len(found):
        raise UsageError(
            f"--segments: {len(found)} tokens need as many numbers, got {len(documents)}"
        )
    flags = None
    if dead is not None:
        places = _wholes("--dead", dead)
        if places and max(places) >= len(found):
            raise UsageError(f"--dead {dead}: there are positions 0..{len(found) - 1}")
        flags = tuple(position in places for position in range(len(found)))
    return Tokens(
        ids=tuple(found),
        segments=None if documents is None else tuple(documents),
        dead=flags,
    )


def _encode(text: str, tokenizer: str | None, compressed: int | None) -> list[int]:
    """Ids of a text, merged as Engram merges them where the model hashes ``compressed`` ids."""
    if tokenizer is None:
        raise UsageError("--text needs the model's --tokenizer")
    from ngscale.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    (encoded,) = loaded.encode([text])
    if compressed is not None:
        from ngscale.compressed_ids import compressed_ids

        merged = compressed_ids(loaded.backend)
        if (number := int(merged.max()) + 1) != compressed:
            raise UsageError(
                f"--tokenizer {tokenizer}: has {number} compressed ids, the model {compressed}"
            )
        encoded = merged[encoded]
    found: list[int] = encoded.tolist()
    return found


def _wholes(option: str, text: str, minimum: int = 0) -> list[int]:
    """Whole numbers, separated by commas or white space."""
    numbers = []
    for part in re.split(r"[,\s]+", text.strip().strip(",")):
        if not part:
            continue
        if not re.fullmatch(r"-?[0-9]{1,19}", part):
            raise UsageError(f"{option}: {part[:40]!r} is not a whole number")
        if int(part) < minimum:
            raise UsageError(f"{option}: {part} is below {minimum}")
        numbers.append(int(part))
    return numbers


def _id_ranges(option: str, text: str) -> tuple[tuple[int, int], ...]:
    ranges = parse_ranges(text)
    if ranges is None:
        raise UsageError(f"{option} {text}: takes half-open ranges such as 0:4,36:55")
    for first, end in ranges:
        if first >= end:
            raise UsageError(f"{option} {text}: {first}:{end} is empty")
    return ranges


def _save(path: Path, found: "Lookups") -> None:
    import io

    import numpy as np

    from ngscale.console import say
    from ngscale.records import write_atomic

    data = io.BytesIO()
    np.save(data, found.ids)
    write_atomic(path, data.getvalue())
    say(f"rows: {path}")
