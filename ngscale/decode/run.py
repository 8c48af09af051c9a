"""plan (which drafters, lengths, texts) -> run -> record."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ngscale.decode.drafters import Drafter, Lookup, ModelDraft, TableDraft
from ngscale.decode.measure import (
    Setting,
    Store,
    compare_tokens,
    exact_check,
    generated,
    largest_difference,
    measured,
)
from ngscale.decode.reject_run import TARGET_LOSS, evaluate
from ngscale.decode.sentence import sentence
from ngscale.decode.subject import (
    Subject,
    Text,
    check_draft_model,
    check_ids,
    check_lengths,
    on_device,
)
from ngscale.decode.table_head import HeadTraining, TableHead, head_loss, read_head, train_head
from ngscale.errors import UsageError
from ngscale.model.row_invariant import row_invariant
from ngscale.records import RunRecord

DRAFTS = ("none", "lookup", "table", "model")
_WARM_TOKENS = 8
_HEAD_BLOCKS = 16
"""Held-out blocks that the head's loss is told of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What the user asked for."""

    subject: Subject
    draft_model: Subject | None
    drafts: tuple[str, ...]
    """Of ``DRAFTS``; none is always measured too."""
    draft_lengths: tuple[int, ...]
    texts: tuple[Text, ...]
    train_blocks: Int64[np.ndarray, "N width"]
    """What the table head is trained on."""
    held_out_blocks: Int64[np.ndarray, "N width"]
    head_training: HeadTraining
    head: Path | None
    """A head to use instead."""
    head_path: Path | None
    """Where a trained one is kept."""
    setting: Setting
    early_rejection: bool
    out: Path | None
    inputs: Mapping[str, Any]
    """Corpus and tokenizer, for the record."""


def check(request: Request) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        InputError: a draft model or head is of another vocabulary, an id has no row.
        UsageError: options do not go together, or the context is longer than the model's.
    """
    subject, longest = request.subject, max(request.draft_lengths)
    vocab_size = subject.decoder.config.vocab_size
    needs_table = "table" in request.drafts or request.early_rejection
    if needs_table:
        hidden_size = subject.embedding.word_embeddings.weight.shape[1]
        if request.head is not None:
            read_head(request.head, hidden_size=hidden_size, vocab_size=vocab_size)
    if "model" in request.drafts and request.draft_model is None:
        raise UsageError("--draft model: needs --draft-model DIR")
    for one in (subject, request.draft_model):
        if one is not None:
            check_lengths(
                one,
                prompt_tokens=request.texts[0].prompts.shape[1],
                new_tokens=request.setting.new_tokens,
                draft=longest,
            )
    if request.draft_model is not None:
        check_draft_model(subject, request.draft_model)
    for text in request.texts:
        check_ids(text.prompts, vocab_size, text.name)


def num_items(request: Request) -> int:
    """Of the progress bar."""
    per_text = 1 + len([*_pairs(request)]) + ("table" in request.drafts) + request.early_rejection
    return len(request.texts) * per_text


def decode(
    request: Request,
    *,
    done: Callable[[], object] = lambda: None,
    head_steps: Callable[[int], object] = lambda _: None,
) -> RunRecord:
    """Train or read the head, measure every drafter, check what must be equal.

    Raises:
        NgscaleError: as ``check``; or a kept file cannot be read.
    """
    check(request)
    subject, setting = request.subject, request.setting
    head, told = _head(request, head_steps)
    shared = {
        "model": subject.described(),
        **request.inputs,
        "head": told and told["identity"],
        "setting": asdict(setting),
        "device": subject.device.type,
        "dtype": str(subject.decoder.norm.weight.dtype),
        "threads": torch.get_num_threads() if subject.device.type == "cpu" else None,
        "torch": torch.__version__,
    }
    if request.draft_model is not None:
        shared["draft_model"] = request.draft_model.described()
    store = Store(request.out, shared)
    rows, texts, rejection = [], [], []
    _warm(request)
    for text in request.texts:
        base = store.item(
            {"text": text.name, "draft": "none", "length": 0},
            lambda text=text: measured(
                generated(subject, text.prompts, None, 0, setting), draft_length=0
            ),
        )
        done()
        rows.append(_row(text, "none", 0, base, base))
        for name, length in _pairs(request):
            item = store.item(
                {"text": text.name, "draft": name, "length": length},
                lambda text=text, name=name, length=length: measured(
                    generated(
                        subject, text.prompts, _drafter(name, head, request), length, setting
                    ),
                    draft_length=length,
                ),
            )
            done()
            rows.append(_row(text, name, length, item, base))
        if "table" in request.drafts:
            length = max(request.draft_lengths)
            item = store.item(
                {"text": text.name, "draft": "table", "length": length, "cached": False},
                lambda text=text, length=length: measured(
                    generated(
                        subject,
                        text.prompts,
                        _drafter("table", head, request),
                        length,
                        setting,
                        cached=False,
                    ),
                    draft_length=length,
                ),
            )
            done()
            rows.append(_row(text, "table, no N-gram Cache", length, item, base))
        if request.early_rejection:
            assert head is not None
            found = store.item(
                {"text": text.name, "rejection": max(request.draft_lengths)},
                lambda text=text: evaluate(
                    subject,
                    head,
                    text.prompts,
                    text.calibration,
                    max(request.draft_lengths),
                    setting,
                ),
            )
            done()
            rejection.append({"text": text.name, **found})
        difference = largest_difference(
            subject, text.prompts[: setting.batch], base["tokens"][: setting.batch]
        )
        texts.append({"text": text.name, "largest_logit_difference": difference})
    results = {
        "drafts": rows,
        "texts": texts,
        "exact": _exact(request, head),
        "head": told and {key: told[key] for key in ("loss_nats", "num_parameters", "tokens")},
        "rejection": rejection,
    }
    inputs = {
        **shared,
        "draft_lengths": list(request.draft_lengths),
        "target_loss": TARGET_LOSS,
        "num_sequences": [len(text.prompts) for text in request.texts],
        "prompt_tokens": request.texts[0].prompts.shape[1],
    }
    return RunRecord(verb="decode", answer=sentence(results), inputs=inputs, results=results)


def _pairs(request: Request) -> Iterator[tuple[str, int]]:
    for name in request.drafts:
        if name != "none":
            for length in request.draft_lengths:
                yield name, length


def _drafter(name: str, head: TableHead | None, request: Request) -> Drafter:
    if name == "lookup":
        return Lookup()
    if name == "table":
        assert head is not None
        return TableDraft(head)
    assert request.draft_model is not None
    return ModelDraft(request.draft_model.decoder)


def _head(
    request: Request, advance: Callable[[int], object]
) -> tuple[TableHead | None, dict[str, Any] | None]:
    """The head, and what is told of it; None where no draft needs it."""
    if "table" not in request.drafts and not request.early_rejection:
        return None, None
    subject = request.subject
    embedding = subject.embedding
    vocab_size, hidden_size = embedding.word_embeddings.weight.shape
    identity = {"model": subject.files, **request.inputs}
    if request.head is not None:
        head = read_head(request.head, hidden_size=hidden_size, vocab_size=vocab_size)
        head = head.to(subject.device)
        tokens = None
        identity = {"file": request.head.name}
    else:
        check_ids(request.train_blocks, vocab_size, "--corpus")
        head = train_head(
            embedding,
            request.train_blocks,
            request.head_training,
            path=request.head_path,
            identity=identity,
            advance=advance,
        )
        tokens = request.head_training.tokens
        identity |= {"training": asdict(request.head_training)}
    head = head.to(embedding.word_embeddings.weight.dtype)
    return head, {
        "identity": identity,
        "loss_nats": head_loss(head, embedding, request.held_out_blocks[:_HEAD_BLOCKS]),
        "num_parameters": sum(p.numel() for p in head.parameters()),
        "tokens": tokens,
    }


def _row(
    text: Text, name: str, length: int, item: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "text": text.name,
        "draft": name,
        "draft_length": length,
        **{key: value for key, value in item.items() if key != "tokens"},
        "sequences_equal": compare_tokens(item["tokens"], base["tokens"]),
    }


def _warm(request: Request) -> None:
    """First calls load kernels."""
    short = request.texts[0].prompts[:1]
    setting = Setting(new_tokens=_WARM_TOKENS, batch=1, sampling=request.setting.sampling, seed=0)
    generated(request.subject, short, Lookup(), 2, setting)


def _exact(request: Request, head: TableHead | None) -> dict[str, Any] | None:
    """Greedy output against full passes, bit for bit, and what the mode costs; on a CPU alone."""
    subject, text = request.subject, request.texts[0]
    is_exact = subject.device.type == "cpu" and subject.decoder.norm.weight.dtype in (
        torch.float32,
        torch.float64,
    )
    if not is_exact:
        return None
    length = max(request.draft_lengths)
    names = ["none", *(name for name in request.drafts if name != "none")]
    equal = {
        name: exact_check(
            subject,
            text.prompts,
            None if name == "none" else _drafter(name, head, request),
            length,
        )
        for name in names
    }
    tokens = on_device(text.prompts[:1], subject.device)
    times = {}
    with torch.no_grad():
        subject.decoder(tokens)
        start = time.perf_counter()
        subject.decoder(tokens)
        times["plain_ms"] = 1000 * (time.perf_counter() - start)
    with row_invariant():
        start = time.perf_counter()
        subject.decoder(tokens)
        times["row_invariant_ms"] = 1000 * (time.perf_counter() - start)
    return {"equal": equal, **times}
