"""``--corpus`` and ``--tokenizer`` -> a token stream and what the record says about it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngscale.errors import UsageError

if TYPE_CHECKING:
    from ngscale.corpus import OnBadRecord
    from ngscale.tokens import TokenStream


def read_source(
    corpus: Sequence[str] | None,
    tokenizer: str | None,
    *,
    text_field: str = "text",
    split: str = "train",
    dtype: str = "uint16",
    vocab_size: int | None = None,
    on_bad_record: "OnBadRecord" = "error",
) -> tuple["TokenStream", dict[str, Any]]:
    """The stream, and ``{"tokenizer": ..., "corpus": ...}`` for the record's inputs.

    The stream is memory-mapped from the cache directory, where a later run finds it again.

    Raises:
        UsageError: a .bin without ``vocab_size``, or text with one.
    """
    from ngscale import tokens
    from ngscale.artefacts import cache_dir
    from ngscale.console import progress
    from ngscale.corpus import default_sources, source_files

    sources = list(corpus or default_sources())
    described: dict[str, Any] = {}
    is_bin = tokens.is_bin(sources)
    if is_bin and vocab_size is None:
        raise UsageError("a .bin of token ids needs --vocab-size V0")
    if not is_bin and vocab_size is not None:
        raise UsageError("--vocab-size is for a .bin of token ids; text has its tokenizer's V0")
    num_bytes = sum(path.stat().st_size for path in source_files(sources))
    if is_bin:
        assert vocab_size is not None
        with progress("reading ids", num_bytes, unit="B") as advance:
            stream = tokens.read_bin(
                sources, dtype=dtype, vocab_size=vocab_size, cache=cache_dir(), advance=advance
            )
    else:
        loaded = tokens.load_tokenizer(tokenizer or tokens.DEFAULT_TOKENIZER)
        with progress("tokenising", num_bytes, unit="B") as advance:
            stream = tokens.read_stream(
                sources,
                loaded,
                text_field=text_field,
                split=split,
                on_bad_record=on_bad_record,
                cache=cache_dir(),
                advance=advance,
            )
        described["tokenizer"] = {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "vocab_size": loaded.vocab_size,
        }
    described["corpus"] = {
        "name": ", ".join(Path(source).name for source in sources),
        "sha256_of_tokens": stream.sha256(),
        "num_tokens": stream.num_tokens,
        "num_docs": stream.num_docs,
        "num_bytes": stream.num_bytes,
        "bad_records": dict(stream.bad_records),
    }
    return stream, described


def run_directory(inputs: dict[str, Any], policy: str) -> Path:
    """Where a count under --max-memory keeps its sorted runs, found again by a later run."""
    from ngscale.artefacts import cache_dir

    return cache_dir() / "ngrams" / f"{inputs['corpus']['sha256_of_tokens'][:32]}-{policy}"
