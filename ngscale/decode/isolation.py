"""Where the time of a decoding step goes: each part alone, on what it was given in a real step.

A part is run again and again on its inputs of one step, without the rest of the model. What a
repeated part reads lies in the processor's caches where it fits there, so parts of small models add
up to less than a step; ``rest`` is the difference, with norms, additions and calls.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from ngscale.model.attention import Attention, LatentAttention
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding, NgramTables
from ngscale.model.feed_forward import EmbeddedFeedForward, FeedForward
from ngscale.model.moe import MixtureOfExperts, Router
from ngscale.model.state import DecoderState

PARTS = (
    "ids",
    "gather",
    "fusion",
    "words",
    "attention",
    "router",
    "experts",
    "dense",
    "lm_head",
    "rest",
)
"""ids: hashing, and keeping the last N-1 ids. gather: the rows. fusion: their projection and sum.
words: the plain word embedding. experts: the whole block but for its router."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component in one step, all layers together."""

    name: str
    seconds: float
    """Median."""
    num_bytes: int
    """Of weights, rows and keys that a step has to read, each once; for ids what it writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decoding step of B sequences, T tokens each."""

    batch: int
    num_tokens: int
    seconds: float
    """Median of whole steps, sampling left out."""
    parts: tuple[Part, ...]


@torch.inference_mode()
def read_context(
    decoder: Decoder, context: Int64[Tensor, "B L"], *, most_tokens: int
) -> DecoderState:
    """The state behind it, with room for a step of ``most_tokens``."""
    batch, length = context.shape
    state = decoder.new_state(batch, length + most_tokens)
    decoder.hidden(context, state)
    return state


def measure_step(
    decoder: Decoder, state: DecoderState, new: Int64[Tensor, "B T"], *, min_seconds: float
) -> Step:
    """A step that reads ``new``; the state is left as it was.

    Each timing repeats for at least ``min_seconds``. Runs on the tokens' device without a sync
    between parts; one is awaited per timing.
    """
    batch, num_tokens = new.shape
    with torch.inference_mode():
        whole = _median(lambda: _whole(decoder, new, state), min_seconds)
        with _calls(decoder) as calls:
            hidden = decoder.hidden(new, state)
        _take_back(state, num_tokens)
        state.begin(num_tokens)  # keys and mask as in the step
        parts = [
            Part(name=name, seconds=_median(again, min_seconds), num_bytes=num_bytes)
            for name, again, num_bytes in _parts(decoder, new, hidden, state, calls)
        ]
    by_name = {part.name: part for part in parts}
    router, experts = by_name["router"], by_name["experts"]
    by_name["experts"] = Part(
        name="experts",
        seconds=max(0.0, experts.seconds - router.seconds),
        num_bytes=experts.num_bytes,
    )
    rest = whole - sum(part.seconds for part in by_name.values())
    by_name["rest"] = Part(name="rest", seconds=rest, num_bytes=0)
    return Step(
        batch=batch, num_tokens=num_tokens, seconds=whole, parts=tuple(by_name[n] for n in PARTS)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What the input embedding takes in a step, by how it is computed; seconds, medians."""

    fused: float
    """One product for the projections of all rows."""
    table_by_table: float
    """One product a table, added up, as the released code does."""
    kept: float
    """With the N-gram Cache: drafting has left ids and embeddings on the device."""


def measure_switches(
    decoder: Decoder, state: DecoderState, new: Int64[Tensor, "B T"], *, min_seconds: float
) -> Switches | None:
    """Of the embedding of tokens that are verified; None without tables at the input, or where
    their fusion is another than one projection a table.
    """
    embedding = decoder.embed_tokens
    if not isinstance(embedding, NgramEmbedding) or embedding.spec.fusion != "average":
        return None
    with torch.inference_mode():
        drafted = decoder.embed(new, state)
        past = state.past(embedding)
        fused = _median(lambda: embedding(new, past), min_seconds)
        rows = embedding.read(new, state=past).view(*new.shape, embedding.spec.num_tables, -1)
        words = embedding.word_embeddings(new)
        one_product = _median(lambda: embedding.fuse(words, rows.flatten(-2)), min_seconds)
        one_each = _median(lambda: _table_by_table(embedding, words, rows), min_seconds)
        kept = _median(lambda: drafted.view_as(drafted), min_seconds)
    return Switches(fused=fused, table_by_table=fused - one_product + one_each, kept=kept)


def _table_by_table(embedding: NgramEmbedding, words: Tensor, rows: Tensor) -> Tensor:
    total = embedding.factor * embedding.word_scale * words
    for i in range(embedding.spec.num_tables):
        projected = rows[:, :, i] @ embedding.table_projection(i).T
        total = total + embedding.factor * embedding.row_scale * projected
    amplified: Tensor = embedding.amplifier(total)
    return amplified


def _whole(decoder: Decoder, tokens: Tensor, state: DecoderState) -> Tensor:
    logits: Tensor = decoder.lm_head(decoder.hidden(tokens, state))
    _take_back(state, tokens.shape[1])
    return logits


def _take_back(state: DecoderState, num_tokens: int) -> None:
    state.truncate(state.lengths - num_tokens, state.longest - num_tokens)


def _median(run: Callable[[], object], min_seconds: float) -> float:
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    median: float = timer.blocked_autorange(min_run_time=min_seconds).median
    return median


_Calls = dict[type[nn.Module], list[tuple[Any, tuple[Any, ...]]]]
"""Modules by kind, each with the arguments that it was called with."""
_KINDS = (Attention, LatentAttention, Router, MixtureOfExperts, FeedForward, EmbeddedFeedForward)


@contextmanager
def _calls(decoder: Decoder) -> Iterator[_Calls]:
    """Every call of these modules while the context lasts."""
    calls: _Calls = {kind: [] for kind in _KINDS}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls[type(module)].append((module, args))

    shared = {id(moe.shared_experts) for moe in decoder.modules() if isinstance(moe, _KINDS[3])}
    handles = [
        module.register_forward_pre_hook(note)
        for module in decoder.modules()
        if type(module) in calls and id(module) not in shared
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _parts(
    decoder: Decoder, tokens: Tensor, hidden: Tensor, state: DecoderState, calls: _Calls
) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Name, what to run again, bytes."""
    yield from _embedding_parts(decoder, tokens, state)
    attention = calls[Attention] + calls[LatentAttention]
    yield "attention", _again(attention), _weights(attention) + _key_bytes(decoder, hidden, state)
    yield "router", _again(calls[Router]), _weights(calls[Router])
    yield "experts", _again(calls[MixtureOfExperts]), _expert_bytes(calls[MixtureOfExperts])
    dense = calls[FeedForward] + calls[EmbeddedFeedForward]
    yield "dense", _again(dense), _weights(dense)
    yield "lm_head", lambda: decoder.lm_head(hidden), _num_bytes(decoder.lm_head.weight)


def _again(calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> Callable[[], object]:
    def run() -> None:
        for module, args in calls:
            module(*args)

    return run


def _embedding_parts(
    decoder: Decoder, tokens: Tensor, state: DecoderState
) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Of the input; tables in layers count among ``rest``, with what reads them."""
    embedding = decoder.embed_tokens
    width = decoder.config.hidden_size
    if not isinstance(embedding, NgramEmbedding):
        for name in ("ids", "gather", "fusion"):
            yield name, lambda: None, 0
        each = width * embedding.weight.element_size()
        yield "words", lambda: embedding(tokens), tokens.numel() * each
        return
    past = state.past(embedding)

    def hashed() -> Tensor:
        state.remember(embedding, embedding.advance_each(tokens, past))
        return embedding.rows_read(tokens, state=past)

    ids = hashed()
    rows = embedding.tables(ids).flatten(-2)
    words = embedding.word_embeddings(tokens)
    yield "ids", hashed, _num_bytes(ids)
    row_bytes = embedding.table_width * embedding.tables.weight.element_size()
    yield "gather", lambda: embedding.tables(ids), _num_distinct(ids) * row_bytes
    projection = 0 if embedding.projection is None else _num_bytes(embedding.projection.weight)
    yield "fusion", lambda: embedding.amplifier(embedding.fuse(words, rows)), projection
    yield "words", lambda: embedding.word_embeddings(tokens), _num_bytes(words)


def _weights(calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> int:
    return sum(_num_bytes(weight) for module, _ in calls for weight in _read_whole(module))


def _read_whole(module: nn.Module) -> Iterator[Tensor]:
    """Parameters, but for those of embeddings, of which a step reads rows."""
    for child in module.modules():
        if not isinstance(child, NgramTables | nn.Embedding):
            yield from child.parameters(recurse=False)


def _key_bytes(decoder: Decoder, hidden: Tensor, state: DecoderState) -> int:
    """Keys and values of all sequences and layers, as attention reads them."""
    model = decoder.config
    if model.attention == "mla":
        heads = model.num_attention_heads
        width = model.qk_nope_head_dim + model.qk_rope_head_dim + model.v_head_dim
    else:
        heads, width = model.num_key_value_heads, 2 * model.head_dim
    layers = model.num_hidden_layers * (2 if model.block == "shortcut" else 1)
    places = state.longest + hidden.shape[1]
    return len(hidden) * places * layers * heads * width * hidden.element_size()


def _expert_bytes(calls: Sequence[tuple[Any, tuple[Any, ...]]]) -> int:
    """Of the experts that some token is sent to, and of shared ones."""
    total = 0
    for moe, (x,) in calls:
        chosen = moe.gate(x).chosen
        num_read = _num_distinct(chosen[chosen < moe.num_experts])
        stacked = (moe.experts.gate_up_proj, moe.experts.down_proj)
        total += num_read * sum(_num_bytes(weight[0]) for weight in stacked)
        if moe.shared_experts is not None:
            total += sum(_num_bytes(weight) for weight in moe.shared_experts.parameters())
    return total


def _num_distinct(ids: Tensor) -> int:
    return len(torch.unique(ids))


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
