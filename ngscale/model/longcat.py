"""LongCat's checkpoints: names and shapes of safetensors <-> the decoder's own.

Source: the safetensors indices of LongCat-Flash-Lite (11,143 text tensors, ``ngram_embeddings``)
and of LongCat-Flash-Lite-Sparse and LongCat-2.0 (``oe_embed_*``), and what their loaders accept:
tables with rows of padding behind the hashed ones (SGLang's NPU loader slices them), projections in
either orientation (TokenSpeed). A tensor that is missing, or that has no place, is an error:
engines that only warn run with tables never loaded.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Literal

import torch
from torch import Tensor

from ngscale.errors import InputError
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding

Family = Literal["ngram_embeddings", "oe_embed"]
"""How n-gram tensors are called: LongCat-Flash-Lite's way, or LongCat-2.0's."""

_TABLES: Mapping[Family, str] = {
    "ngram_embeddings": "model.ngram_embeddings.embedders.{}.weight",
    "oe_embed": "model.oe_embed_tokens{}.weight",
}
_PROJECTIONS: Mapping[Family, str] = {
    "ngram_embeddings": "model.ngram_embeddings.post_projs.{}.weight",
    "oe_embed": "model.oe_embed_proj{}.weight",
}
_WORD_ALIASES = (
    "model.embed_tokens.weight",
    "model.ngram_embeddings.word_embeddings.weight",
    "model.ngram_embeddings.embed_tokens.weight",
)
"""The second is a second name of the same tensor in the HF code (mlx-lm keeps it alone)."""
_LEFT_OUT = re.compile(r"^model\.mtp\.|rotary_emb\.inv_freq$")
"""Multi-token prediction, and a constant."""

Tensors = Mapping[str, Tensor]


def embedding_tensors(
    embedding: NgramEmbedding, *, family: Family = "ngram_embeddings"
) -> dict[str, Tensor]:
    """The embedding as LongCat stores it: the word embedding, each table and each projection."""
    tensors = {_WORD_ALIASES[0]: embedding.word_embeddings.weight}
    for i in range(embedding.spec.num_tables):
        tensors[_TABLES[family].format(i)] = embedding.table(i)
        tensors[_PROJECTIONS[family].format(i)] = embedding.table_projection(i)
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def load_embedding(embedding: NgramEmbedding, tensors: Tensors, *, source: str) -> set[str]:
    """Copy LongCat's tensors, of either family, into the embedding; the names that were read.

    Raises:
        InputError: one is missing or of another shape; names ``source`` and the tensor.
    """
    reader = _Reader(tensors, source)
    with torch.no_grad():
        _copy_words(embedding, reader)
        for i, name in enumerate(table_names(tensors, embedding.spec.num_tables)):
            table = embedding.table(i)
            table.copy_(reader.rows(name, table))
        _copy_projections(embedding, reader)
    return reader.used


@torch.no_grad()
def load_all_but_tables(embedding: NgramEmbedding, tensors: Tensors, *, source: str) -> None:
    """As ``load_embedding``, without reading any table.

    Raises:
        InputError: as ``load_embedding``.
    """
    reader = _Reader(tensors, source)
    _copy_words(embedding, reader)
    _copy_projections(embedding, reader)


def table_names(tensors: Collection[str], number: int) -> list[str]:
    """What the tables are called among ``tensors``."""
    names = _TABLES[_family(tensors)]
    return [names.format(i) for i in range(number)]


def _family(tensors: Collection[str]) -> Family:
    alias = any(name.startswith("model.oe_embed_") for name in tensors)
    return "oe_embed" if alias else "ngram_embeddings"


def _copy_words(embedding: NgramEmbedding, reader: "_Reader") -> None:
    words = [name for name in _WORD_ALIASES if name in reader.tensors]
    weight = embedding.word_embeddings.weight
    weight.copy_(reader.get(words[0] if words else _WORD_ALIASES[0], weight))
    for name in words[1:]:
        other = reader.get(name, weight)
        if not weight.is_meta and not torch.equal(other.to(weight), weight):
            raise InputError(f"{reader.source}: {name}: differs from {words[0]}, its other name")


def _copy_projections(embedding: NgramEmbedding, reader: "_Reader") -> None:
    names = _PROJECTIONS[_family(reader.tensors)]
    for i in range(embedding.spec.num_tables):
        projection = embedding.table_projection(i)
        projection.copy_(reader.either_way(names.format(i), projection))


class _Reader:
    """Tensors by name and shape, and which of them were asked for."""

    def __init__(self, tensors: Tensors, source: str) -> None:
        self.tensors, self.source = tensors, source
        self.used: set[str] = set()

    def get(self, name: str, like: Tensor, fits: Callable[[Tensor], bool] | None = None) -> Tensor:
        """The tensor, of the shape of ``like`` unless ``fits`` says otherwise."""
        if name not in self.tensors:
            raise InputError(f"{self.source}: {name}: is missing")
        self.used.add(name)
        tensor = self.tensors[name]
        if not (tensor.shape == like.shape if fits is None else fits(tensor)):
            raise InputError(
                f"{self.source}: {name}: has shape {list(tensor.shape)}, the config needs "
                f"{list(like.shape)}"
            )
        return tensor

    def rows(self, name: str, like: Tensor) -> Tensor:
        """The first rows of a table: those behind are padding."""
        tensor = self.get(
            name,
            like,
            lambda t: t.dim() == 2 and len(t) >= len(like) and t.shape[1] == like.shape[1],
        )
        return tensor[: len(like)]

    def either_way(self, name: str, like: Tensor) -> Tensor:
        """A projection [out, in], or transposed where its shape says so; a square one is not."""
        tensor = self.get(name, like, lambda t: t.shape in (like.shape, like.T.shape))
        return tensor if tensor.shape == like.shape else tensor.T


def longcat_name(own: str) -> str:
    """LongCat's name of a tensor of the decoder that it stores as one."""
    name = own.replace(".mlp.gate.weight", ".mlp.router.classifier.weight")
    name = name.replace(".mlp.gate.", ".mlp.router.")
    return name if name.startswith("lm_head.") else f"model.{name}"


def _expert_names(layer: int, expert: int) -> tuple[str, str, str]:
    """Gate, up and down projections of one expert."""
    stem = f"model.layers.{layer}.mlp.experts.{expert}"
    return (f"{stem}.gate_proj.weight", f"{stem}.up_proj.weight", f"{stem}.down_proj.weight")


def longcat_tensors(decoder: Decoder, *, family: Family = "ngram_embeddings") -> dict[str, Tensor]:
    """The whole decoder, of a LongCat-Flash design, as LongCat stores it."""
    state = decoder.state_dict()
    tensors = {
        longcat_name(own): tensor.contiguous()
        for own, tensor in state.items()
        if not own.startswith("embed_tokens.") and ".mlp.experts." not in own
    }
    if isinstance(decoder.embed_tokens, NgramEmbedding):
        tensors |= embedding_tensors(decoder.embed_tokens, family=family)
    else:
        tensors[_WORD_ALIASES[0]] = state["embed_tokens.weight"]
    for layer in range(decoder.config.num_hidden_layers):
        gate_up = state[f"layers.{layer}.mlp.experts.gate_up_proj"]  # (X, 2F, D)
        down = state[f"layers.{layer}.mlp.experts.down_proj"]
        for expert in range(decoder.config.num_experts):
            parts = (*gate_up[expert].chunk(2), down[expert])
            names = _expert_names(layer, expert)
            tensors |= {name: part.clone() for name, part in zip(names, parts, strict=True)}
    return tensors


def _copy(own: str, tensor: Tensor, reader: "_Reader") -> None:
    """Fill the decoder's tensor ``own``; of fused experts, from those of each."""
    experts, _, fused = own.partition(".mlp.experts.")
    if not fused:
        tensor.copy_(reader.get(longcat_name(own), tensor))
        return
    layer = int(experts.removeprefix("layers."))
    for expert in range(len(tensor)):
        weight = tensor[expert]  # not unbound at once: a wrong config has 10^9 of them
        gate, up, down = _expert_names(layer, expert)
        named = zip((gate, up), weight.chunk(2), strict=True)
        for name, part in named if fused == "gate_up_proj" else ((down, weight),):
            part.copy_(reader.get(name, part))


@torch.no_grad()
def load_own_tensor(own: str, tensor: Tensor, tensors: Tensors, *, source: str) -> None:
    """Fill the tensor that the decoder's state dict calls ``own``, no part of its embedding.

    Raises:
        InputError: as ``load_longcat_tensors``.
    """
    _copy(own, tensor, _Reader(tensors, source))


@torch.no_grad()
def load_longcat_tensors(decoder: Decoder, tensors: Tensors, *, source: str) -> None:
    """Copy a LongCat-Flash checkpoint into the decoder of its design.

    Raises:
        InputError: a tensor is missing, of another shape, or has no place in the design; names
            ``source`` and the tensor. Multi-token prediction is left out.
    """
    reader = _Reader(tensors, source)
    state = decoder.state_dict()
    if isinstance(decoder.embed_tokens, NgramEmbedding):
        reader.used |= load_embedding(decoder.embed_tokens, tensors, source=source)
    else:
        words = state["embed_tokens.weight"]
        words.copy_(reader.get(_WORD_ALIASES[0], words))
    for own, tensor in state.items():
        if not own.startswith("embed_tokens."):
            _copy(own, tensor, reader)
    rest = sorted(name for name in set(tensors) - reader.used if not _LEFT_OUT.search(name))
    if rest:
        raise InputError(f"{source}: {rest[0]}: has no place in the design ({len(rest)} in all)")
