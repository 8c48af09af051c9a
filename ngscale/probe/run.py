"""plan (which checkpoint, which tokens) -> run -> record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ngscale.corpus import OnBadRecord, default_sources, embedded_dir
from ngscale.errors import InputError, UsageError
from ngscale.probe import advice, summary
from ngscale.probe.load import Checkpoint, load_checkpoint
from ngscale.probe.load_gguf import gguf_tokenizer
from ngscale.probe.memory import memory_errors
from ngscale.probe.norms import measure
from ngscale.probe.windows import Windows, check_vocabulary, cut_windows, special_prefix
from ngscale.records import RunRecord
from ngscale.tokens import Advance, Tokenizer, ignore, is_bin, load_tokenizer, read_stream


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is probed, and everything the record says about it."""

    checkpoint: Checkpoint
    windows: Windows
    inputs: dict[str, Any]


def load(
    directory: Path,
    corpus: Sequence[str] | None,
    tokenizer: str | None,
    *,
    tokens: int,
    windows: int,
    device: str,
    draws: int = 1,
    allow_pickle: bool = False,
    stream: bool = False,
    text_field: str = "text",
    split: str = "train",
    on_bad_record: OnBadRecord = "error",
    cache: Path | None = None,
    advance: Advance = ignore,
) -> Subject:
    """Read checkpoint, tokenizer and texts, one per source; ``corpus`` None is the default.

    They are read as ``tokens.read_stream`` does.

    Raises:
        NgscaleError: any input is missing, malformed, unsafe, or does not fit the others.
    """
    checkpoint = load_checkpoint(directory, device=device, allow_pickle=allow_pickle, stream=stream)
    if checkpoint.max_tokens is not None and tokens > checkpoint.max_tokens:
        raise UsageError(
            f"--tokens {tokens}: the model has max_position_embeddings {checkpoint.max_tokens}; "
            f"use --tokens {checkpoint.max_tokens} or fewer"
        )
    loaded = _tokenizer(directory, tokenizer, checkpoint)
    sources = list(corpus or default_sources())
    if is_bin(sources):
        raise UsageError("--corpus: probe takes text, not a .bin of token ids")
    texts = [
        read_stream(
            [source],
            loaded,
            text_field=text_field,
            split=split,
            on_bad_record=on_bad_record,
            cache=cache,
            advance=advance,
        )
        for source in sources
    ]
    cut = cut_windows(
        texts,
        special_prefix(loaded),
        num_windows=windows,
        window_tokens=tokens,
        draws=draws,
    )
    check_vocabulary(loaded, cut, checkpoint.vocab_size)
    return Subject(
        checkpoint=checkpoint,
        windows=cut,
        inputs={
            "model": {
                "name": checkpoint.name,
                "model_type": checkpoint.model_type,
                "hidden_size": checkpoint.hidden_size,
                "vocab_size": checkpoint.vocab_size,
                "amplification": checkpoint.amplification,
                "sha256": checkpoint.files,
                **({"sha256_of_headers": checkpoint.headers} if checkpoint.streamed else {}),
            },
            "tokenizer": {
                "name": loaded.name,
                "sha256": loaded.sha256,
                "vocab_size": loaded.vocab_size,
            },
            "texts": [
                {
                    "name": Path(source).name,
                    "sha256_of_tokens": text.sha256(),
                    "num_tokens": text.num_tokens,
                    "num_docs": text.num_docs,
                    "num_bytes": text.num_bytes,
                    "bad_records": dict(text.bad_records),
                }
                for source, text in zip(sources, texts, strict=True)
            ],
            "window": {
                "tokens": tokens,
                "count": len(cut.places),
                "draws": draws,
                "prefix_ids": list(cut.prefix),
                "places": [asdict(place) for place in cut.places],
            },
            "dtype": "float32",
            "device": checkpoint.device.type,
        },
    )


def _tokenizer(directory: Path, named: str | None, checkpoint: Checkpoint) -> Tokenizer:
    """The named one, else the checkpoint's, else (our own decoder) the embedded one that fits.

    Raises:
        InputError: there is none.
    """
    if named is not None:
        return load_tokenizer(named)
    if checkpoint.gguf is not None:
        return gguf_tokenizer(checkpoint.gguf)
    if (directory / "tokenizer.json").is_file():
        return load_tokenizer(str(directory))
    if checkpoint.is_own:
        for path in sorted((embedded_dir() / "tokenizers").glob("*/tokenizer.json")):
            embedded = load_tokenizer(path.parent.name)
            if embedded.vocab_size == checkpoint.vocab_size:
                return embedded
    raise InputError(f"{directory}: has no tokenizer.json; --tokenizer names the model's own")


def probe_checkpoint(subject: Subject, *, done: Callable[[], object]) -> RunRecord:
    """Run every window, check closure, reduce, advise.

    Raises:
        NoResultError: the stream does not close, or is not finite.
    """
    checkpoint = subject.checkpoint
    with memory_errors("the forward pass"):
        norms = measure(
            checkpoint.structure,
            checkpoint.run,
            subject.windows.ids,
            device=checkpoint.device,
            done=done,
            together=checkpoint.streamed,
        )
    first = next(s for s in norms.sublayers if s.kind == "attention")
    advised = advice.advise(
        norms.first_layer,
        attention_ratio=float(np.median((first.write / first.stream)[:, 1:])),
        hidden_size=checkpoint.hidden_size,
        already=checkpoint.amplification,
    )
    return summary.build(norms, advised, subject.inputs, subject.windows)
