"""plan (which drafters, lengths, texts) -> run -> record."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from ngscale.decode.summary import WITHOUT_CACHE
from ngscale.decode.table_head import HeadTraining, TableHead, head_loss, read_head, train_head
from ngscale.model.row_invariant import row_invariant
from ngscale.records import RunRecord

DRAFTS = ("none", "lookup", "table", "model")
_WARM_TOKENS = 8


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
    """What its loss is told of."""
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
        UsageError: there are no tables for table drafts, or the context is longer than the model's.
    """
    subject, longest = request.subject, max(request.draft_lengths)
    vocab_size = subject.decoder.config.vocab_size
    if needs_head(request):
        hidden_size = subject.embedding.word_embeddings.weight.shape[1]
        if request.head is not None:
            read_head(request.head, hidden_size=hidden_size, vocab_size=vocab_size)
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
    request: Request, made: "Head | None", *, done: Callable[[], object] = lambda: None
) -> RunRecord:
    """Measure every drafter, with the head of ``make_head``; check what must be equal.

    Raises:
        NgscaleError: a kept measurement cannot be read.
    """
    subject, setting, longest = request.subject, request.setting, max(request.draft_lengths)
    shared = _shared(request, made)
    store = Store(request.out, shared)
    head = None if made is None else made.head

    def measure(text: Text, name: str, length: int, *, cached: bool = True) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            drafter = None if name == "none" else _drafter(name, head, request)
            batches = generated(subject, text.prompts, drafter, length, setting, cached=cached)
            return measured(batches, draft_length=length)

        kept = {"text": text.name, "draft": name, "length": length, "cached": cached}
        found = store.item(kept, run)
        done()
        return found

    def reject(text: Text) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            assert head is not None
            return evaluate(subject, head, text.prompts, text.calibration, longest, setting)

        found = store.item({"text": text.name, "rejection": longest}, run)
        done()
        return {"text": text.name, **found}

    rows, texts, rejection = [], [], []
    _warm(request)
    for text in request.texts:
        base = measure(text, "none", 0)
        rows.append(_row(text, "none", 0, base, base))
        for name, length in _pairs(request):
            rows.append(_row(text, name, length, measure(text, name, length), base))
        if "table" in request.drafts:
            again = measure(text, "table", longest, cached=False)
            rows.append(_row(text, WITHOUT_CACHE, longest, again, base))
        if request.early_rejection:
            rejection.append(reject(text))
        difference = largest_difference(
            subject, text.prompts[: setting.batch], base["tokens"][: setting.batch]
        )
        texts.append({"text": text.name, "largest_logit_difference": difference})
    results = {
        "drafts": rows,
        "texts": texts,
        "exact": _exact(request, head),
        "head": None if made is None else made.told,
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


def _shared(request: Request, made: "Head | None") -> dict[str, Any]:
    """What every measurement is a function of."""
    subject = request.subject
    return {
        "model": subject.described(),
        "draft_model": request.draft_model and request.draft_model.described(),
        **request.inputs,
        "head": made and made.identity,
        "prompts": _sha256_of_prompts(request.texts),
        "setting": asdict(request.setting),
        "device": subject.device.type,
        "dtype": str(subject.decoder.norm.weight.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads() if subject.device.type == "cpu" else None,
        "torch": torch.__version__,
    }


def _sha256_of_prompts(texts: tuple[Text, ...]) -> str:
    data = [one.astype("<i8").tobytes() for t in texts for one in (t.prompts, t.calibration)]
    return hashlib.sha256(b"".join(data)).hexdigest()


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


class Head(NamedTuple):
    """A table head, and where it comes from."""

    head: TableHead
    identity: dict[str, Any]
    told: dict[str, Any]
    """Of it, in the record."""


def make_head(request: Request, advance: Callable[[int], object] = lambda _: None) -> Head:
    """Train or read the head.

    Raises:
        InputError: a kept head is broken or of another vocabulary, or an id has no row.
    """
    subject, embedding = request.subject, request.subject.embedding
    vocab_size, hidden_size = embedding.word_embeddings.weight.shape
    identity: dict[str, Any] = {"model": subject.files, **request.inputs}
    if request.head is not None:
        head = read_head(request.head, hidden_size=hidden_size, vocab_size=vocab_size)
        head = head.to(subject.device)
        identity = {"sha256": hashlib.sha256(request.head.read_bytes()).hexdigest()}
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
        identity["training"] = asdict(request.head_training)
    head = head.to(embedding.word_embeddings.weight.dtype)
    told = {
        "loss_nats": head_loss(head, embedding, request.held_out_blocks),
        "num_parameters": sum(p.numel() for p in head.parameters()),
    }
    return Head(head, identity, told)


def needs_head(request: Request) -> bool:
    """Whether a draft of table's is measured."""
    return "table" in request.drafts or request.early_rejection


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
