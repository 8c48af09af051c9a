"""plan (which checkpoint, which tokens) -> run -> record."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ngscale.console import say
from ngscale.corpus import OnBadRecord, default_sources
from ngscale.errors import NoResultError, UsageError
from ngscale.probe import advice, summary
from ngscale.probe.amplify import LossMeter, amplified, built_in
from ngscale.probe.load import Checkpoint, load_checkpoint
from ngscale.probe.load_gguf import gguf_tokenizer
from ngscale.probe.memory import memory_errors
from ngscale.probe.norms import StreamNorms, measure
from ngscale.probe.windows import (
    Windows,
    check_vocabulary,
    cut_windows,
    special_prefix,
    tokenizer_name,
)
from ngscale.records import RunRecord
from ngscale.spec import Amplification
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
    cut, described = read_windows(
        directory,
        corpus,
        tokenizer,
        vocab_size=checkpoint.vocab_size,
        is_own=checkpoint.is_own,
        gguf=checkpoint.gguf,
        tokens=tokens,
        windows=windows,
        draws=draws,
        text_field=text_field,
        split=split,
        on_bad_record=on_bad_record,
        cache=cache,
        advance=advance,
    )
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
            **described,
            "dtype": "float32",
            "device": checkpoint.device.type,
        },
    )


def read_windows(
    directory: Path,
    corpus: Sequence[str] | None,
    tokenizer: str | None,
    *,
    vocab_size: int,
    is_own: bool,
    gguf: Path | None = None,
    tokens: int,
    windows: int,
    draws: int,
    text_field: str = "text",
    split: str = "train",
    on_bad_record: OnBadRecord = "error",
    cache: Path | None = None,
    advance: Advance = ignore,
) -> tuple[Windows, dict[str, Any]]:
    """The windows of every text, and what the record says of tokenizer, texts and windows.

    Raises:
        NgscaleError: tokenizer or text is missing, malformed, or does not fit the model.
    """
    loaded = _tokenizer(directory, tokenizer, vocab_size=vocab_size, is_own=is_own, gguf=gguf)
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
    check_vocabulary(loaded, cut, vocab_size)
    return cut, {
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
    }


def _tokenizer(
    directory: Path, named: str | None, *, vocab_size: int, is_own: bool, gguf: Path | None
) -> Tokenizer:
    """The named one, else the checkpoint's."""
    if named is not None:
        return load_tokenizer(named)
    if gguf is not None:
        return gguf_tokenizer(gguf)
    return load_tokenizer(tokenizer_name(directory, vocab_size=vocab_size, is_own=is_own))


def probe_checkpoint(
    subject: Subject, *, check: bool = True, done: Callable[[], object] = lambda: None
) -> RunRecord:
    """Run every window, hold the stream to closure, reduce, advise.

    ``check`` runs them again under each amplification, where the model has its head at hand.
    ``done`` is called after every window.

    Raises:
        NoResultError: the stream does not close, or is not finite.
    """
    checkpoint = subject.checkpoint
    logits = checkpoint.logits if check else None
    losses = None if logits is None else LossMeter(logits)
    with memory_errors("the forward pass"):
        norms = _measure(subject, losses or checkpoint.run, done)
        checked = (
            {}
            if losses is None
            else check_amplifications(subject, norms, tuple(losses.losses), done)
        )
    advised = advice.advise(
        norms, hidden_size=checkpoint.hidden_size, already=_already(checkpoint), checked=checked
    )
    return summary.build(norms, advised, subject.inputs, subject.windows)


def num_passes(subject: Subject, *, check: bool) -> int:
    """Times that every window is run."""
    can_check = check and subject.checkpoint.logits is not None
    return len(advice.AMPLIFICATIONS) if can_check else 1


def _measure(
    subject: Subject, run: Callable[[Tensor], object], done: Callable[[], object]
) -> StreamNorms:
    checkpoint = subject.checkpoint
    return measure(
        checkpoint.structure,
        run,
        subject.windows.ids,
        device=checkpoint.device,
        done=done,
        together=checkpoint.streamed,
    )


def check_amplifications(
    subject: Subject,
    norms: StreamNorms,
    losses: tuple[float, ...],
    done: Callable[[], object],
) -> dict[Amplification, advice.Checked]:
    """Share and losses as they are and under each amplification; without those that break it."""
    checkpoint = subject.checkpoint
    assert checkpoint.logits is not None
    found: dict[Amplification, advice.Checked] = {
        "none": advice.Checked(share=_first_share(norms), losses=losses)
    }
    for name, factor in advice.factors(norms.first_layer, checkpoint.hidden_size).items():
        if name == "none":
            continue
        meter = LossMeter(checkpoint.logits)
        try:
            with amplified(checkpoint.structure.embed_tokens, name, factor):
                again = _measure(subject, meter, done)
        except NoResultError as error:
            say(f"the check of {name} gives no result: {error}")
            continue
        found[name] = advice.Checked(share=_first_share(again), losses=tuple(meter.losses))
    return found


def _first_share(norms: StreamNorms) -> float:
    return float(np.median(norms.shares[0].share[:, 1:]))


def _already(checkpoint: Checkpoint) -> Amplification:
    """What the design says, or a transformers model does in its embedding."""
    if checkpoint.amplification != "none":
        return checkpoint.amplification
    return built_in(checkpoint.structure.embed_tokens, checkpoint.hidden_size)
