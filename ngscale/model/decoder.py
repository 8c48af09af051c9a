"""The decoder: pre-norm blocks of attention and top-k experts, untied lm_head.

Module names are those of Hugging Face decoders (``embed_tokens``, ``layers``, ``input_layernorm``,
``self_attn``, ``post_attention_layernorm``, ``mlp``, ``norm``, ``lm_head``), and the outputs of
``embed_tokens``, ``self_attn``, ``mlp`` and ``mlps`` are exactly what the residual stream starts
with and is added to.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.design import Design
from ngscale.errors import SpecError
from ngscale.model.attention import Attention, LatentAttention, Rotary, rotary
from ngscale.model.embedding import NgramEmbedding, NgramReader, embed, embedding_std
from ngscale.model.feed_forward import EmbeddedFeedForward, FeedForward
from ngscale.model.initialise import fill_normal, fill_slices, undrawn_embedding
from ngscale.model.longcat_keys import decoder_keys
from ngscale.model.loss import linear_cross_entropy
from ngscale.model.moe import MixtureOfExperts, Router
from ngscale.model.rms_norm import RMSNorm
from ngscale.model.state import DecoderState
from ngscale.spec import NgramSpec
from ngscale.tensor_groups import group_of

_INTO_STREAM = ("o_proj.weight", "down_proj.weight", "down_proj")


class Block(nn.Module):
    """One layer: the stream plus attention, plus experts."""

    def __init__(self, model: DecoderConfig, ngram: NgramReader | None = None) -> None:
        super().__init__()
        self.ngram = ngram
        self.input_layernorm = RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.self_attn = _attention(model)
        self.post_attention_layernorm = RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.mlp = MixtureOfExperts(model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Rotary,
        tokens: Int64[Tensor, "B T"],
        state: DecoderState | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The stream after this layer."""
        if self.ngram is not None:
            x = x + self.ngram(x, tokens, state)
        x = x + self.self_attn(self.input_layernorm(x), positions, state)
        after: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return after


class ShortcutBlock(nn.Module):
    """LongCat-Flash's layer: attention, dense, attention, dense; the experts read what the first
    dense block reads and write where the second has written (arXiv:2509.01322, sec. 2.2).
    """

    def __init__(
        self,
        model: DecoderConfig,
        ngram: NgramReader | None = None,
        embedding: nn.Module | None = None,
    ) -> None:
        super().__init__()
        D, F = model.hidden_size, model.intermediate_size
        self.ngram = ngram
        self.input_layernorm = nn.ModuleList(RMSNorm(D, eps=model.rms_norm_eps) for _ in range(2))
        self.self_attn = nn.ModuleList(_attention(model) for _ in range(2))
        self.post_attention_layernorm = nn.ModuleList(
            RMSNorm(D, eps=model.rms_norm_eps) for _ in range(2)
        )
        first = FeedForward(D, F) if embedding is None else EmbeddedFeedForward(D, F, embedding)
        self.mlps = nn.ModuleList([first, FeedForward(D, F)])
        self.mlp = MixtureOfExperts(model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        positions: Rotary,
        tokens: Int64[Tensor, "B T"],
        state: DecoderState | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The stream after this layer."""
        if self.ngram is not None:
            x = x + self.ngram(x, tokens, state)
        x = x + self.self_attn[0](self.input_layernorm[0](x), positions, state)
        normed = self.post_attention_layernorm[0](x)
        shortcut = self.mlp(normed)
        x = x + self.mlps[0](normed, tokens, state)
        x = x + self.self_attn[1](self.input_layernorm[1](x), positions, state)
        after: Tensor = x + self.mlps[1](self.post_attention_layernorm[1](x)) + shortcut
        return after


def _attention(model: DecoderConfig) -> nn.Module:
    return LatentAttention(model) if model.attention == "mla" else Attention(model)


class Decoder(nn.Module):
    """Token ids [B, T] -> logits [B, T, V0]; weights are drawn by ``initialise``.

    ``compressed_ids`` [V0] are the ids an Engram hash takes, where a spec of the design does.

    Raises:
        SpecError: the design's model is neither ngscale's own decoder nor a LongCat-Flash, or its
            tables do not fit the model.
    """

    def __init__(
        self, design: Design, *, compressed_ids: Int64[Tensor, " V0"] | None = None
    ) -> None:
        super().__init__()
        model = decoder_keys(design.model)
        self.config = model
        _check_placements(design, model)
        at_input = [spec for spec in design.ngrams if not spec.layers]
        self.embed_tokens: NgramEmbedding | nn.Embedding
        if at_input:
            (spec,) = at_input
            self.embed_tokens = NgramEmbedding(
                model.vocab_size, model.hidden_size, spec, compressed_ids=_ids(spec, compressed_ids)
            )
        else:
            self.embed_tokens = undrawn_embedding(model.vocab_size, model.hidden_size)
        readers = _readers(design, model, compressed_ids)
        embeddings = _dense_embeddings(design, model, compressed_ids)
        self.layers = nn.ModuleList(
            Block(model, readers.get(index))
            if model.block == "standard"
            else ShortcutBlock(model, readers.get(index), embeddings.get(index))
            for index in range(model.num_hidden_layers)
        )
        self.norm = RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.lm_head = nn.Linear(model.hidden_size, model.vocab_size, bias=False)

    def forward(
        self,
        tokens: Int64[Tensor, "B T"],
        targets: Int64[Tensor, "B T"] | None = None,
        *,
        state: DecoderState | None = None,
    ) -> Float[Tensor, "B T V0"] | Float[Tensor, ""]:
        """Next-token logits at every position; with ``targets``, their mean cross-entropy instead.

        The latter holds few logits at a time (``model/loss.py``) and leaves out the router's
        ``balance_loss``. With a ``state`` the tokens go on behind what it holds, and it grows.
        """
        hidden = self.hidden(tokens, state)
        if targets is not None:
            return linear_cross_entropy(hidden, self.lm_head.weight, targets)
        logits: Tensor = self.lm_head(hidden)
        return logits

    def hidden(
        self,
        tokens: Int64[Tensor, "B T"],
        state: DecoderState | None = None,
        *,
        embedded: Float[Tensor, "B T D"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """What lm_head reads; ``embedded`` is what ``embed`` gave for these tokens, if it did.

        With a ``state`` the tokens go on behind what it holds, and it grows by them.
        """
        if state is None:
            positions = self._rotary(tokens.shape[1], tokens.device)
        else:
            positions = Rotary(*state.begin(tokens.shape[1]))
        x = self.embed(tokens, state) if embedded is None else embedded
        for layer in self.layers:
            x = layer(x, positions, tokens, state)
        out: Tensor = self.norm(x)
        if state is not None:
            state.end(tokens.shape[1])
        return out

    def embed(
        self, tokens: Int64[Tensor, "B T"], state: DecoderState | None = None, *, ahead: int = 0
    ) -> Float[Tensor, "B T D"]:
        """The start of the stream; the state does not grow, but knows these n-grams.

        The tokens begin ``ahead`` behind the state's end, where those between were embedded before:
        so drafted tokens are embedded one after the other, and once.
        """
        return embed(self.embed_tokens, tokens, state, ahead=ahead)

    def new_state(self, num_sequences: int, capacity: int) -> DecoderState:
        """Of sequences that start: room for ``capacity`` tokens of each."""
        cos, sin = self._rotary(capacity, self.norm.weight.device)
        return DecoderState(num_sequences, capacity, cos=cos, sin=sin)

    def _rotary(self, length: int, device: torch.device) -> Rotary:
        model = self.config
        dim = model.qk_rope_head_dim if model.attention == "mla" else model.head_dim
        return rotary(length, dim, model.rope_theta, device, model.rope_scaling)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights; those two designs share start equal (``model/initialise.py``).

        Matrices get std ``1/sqrt(fan_in)``; the ones that write into the stream (``o_proj``,
        ``down_proj``) are divided by the square root of the number of blocks that write there
        (``sqrt(2 * layers)`` in a standard decoder) as in GPT-2, so that the stream's variance
        does not grow with depth.
        """
        if isinstance(self.embed_tokens, NgramEmbedding):
            self.embed_tokens.initialise(seed)
        else:
            words = self.embed_tokens.weight
            std = embedding_std(words.shape[1])
            fill_normal(words, std=std, seed=seed, name="word_embeddings")
        num_writers = 5 if self.config.block == "shortcut" else 2
        into_stream = 1 / math.sqrt(num_writers * len(self.layers))
        for name, weight in self.named_parameters():
            if name.startswith("embed_tokens.") or ".ngram." in name or ".embedding." in name:
                continue
            group = group_of(name)
            if group == "norms" or "layernorm" in name:
                weight.fill_(1.0)
            elif group == "router_bias":
                weight.zero_()
            else:
                scale = into_stream if name.endswith(_INTO_STREAM) else 1.0
                fill = fill_slices if group in ("experts", "router") else fill_normal
                fill(weight, std=scale / math.sqrt(weight.shape[-1]), seed=seed, name=name)
        for router in self.routers():
            router.e_score_correction_bias.zero_()
        for index, layer in enumerate(self.layers):
            self._initialise_ngrams(layer, seed, f"layers.{index}.")

    def _initialise_ngrams(self, layer: nn.Module, seed: int, prefix: str) -> None:
        assert isinstance(layer, Block | ShortcutBlock)
        if layer.ngram is not None:
            layer.ngram.initialise(seed, prefix=prefix)
        if isinstance(layer, Block) or not isinstance(layer.mlps[0], EmbeddedFeedForward):
            return
        embedding = layer.mlps[0].embedding
        # The up-projection it stands for puts out columns of variance 1.
        norm = math.sqrt(self.config.intermediate_size)
        if isinstance(embedding, NgramEmbedding):
            embedding.initialise(seed, norm=norm, prefix=prefix)
        else:
            words = embedding.get_parameter("weight")
            fill_normal(words, std=1.0, seed=seed, name=f"{prefix}word_embeddings")

    def routers(self) -> Iterator[Router]:
        """That of each layer, in their order."""
        for layer in self.layers:
            assert isinstance(layer, Block | ShortcutBlock)
            yield layer.mlp.gate

    def balance_experts(self, rate: float) -> None:
        """After an optimiser step: steer every router towards equal load."""
        for router in self.routers():
            router.balance(rate)

    def balance_loss(self) -> Float[Tensor, ""]:
        """``router_aux_loss_coef`` times the sequence-wise losses of all routers, summed, of the
        last forward in training; 0 without a coefficient.
        """
        losses = [one for router in self.routers() if (one := router.balance_loss) is not None]
        if not losses:
            return self.norm.weight.new_zeros(())
        return self.config.router_aux_loss_coef * torch.stack(losses).sum()


def _check_placements(design: Design, model: DecoderConfig) -> None:
    """Each place takes one set of tables at most, and has to be there."""
    places = [(spec.placement, spec.layers) for spec in design.ngrams]
    dense = [layers for placement, layers in places if placement != "input"]
    gated = [layers for placement, layers in places if placement == "input"]
    for taken in (dense, gated):
        if len(set(taken)) < len(taken):
            raise SpecError(f"layers: two sets of n-gram tables share a place: {taken}")
    for _, layers in places:
        for index in layers:
            if index >= model.num_hidden_layers:
                raise SpecError(f"layers: {index} is not below {model.num_hidden_layers} layers")
        if len(layers) > 1:
            raise SpecError(f"layers: one set of tables for each layer is read here, got {layers}")


def _ids(spec: NgramSpec, compressed_ids: Tensor | None) -> Tensor | None:
    """The map, for the specs whose hash takes compressed ids."""
    return compressed_ids if spec.compressed_vocab is not None else None


def _readers(
    design: Design, model: DecoderConfig, compressed_ids: Tensor | None
) -> Mapping[int, NgramReader]:
    """Engram's readers by layer."""
    readers = {}
    for index, spec in enumerate(design.ngrams):
        if spec.layers and spec.placement == "input":
            if spec.fusion != "gated" or not design.gates:
                raise SpecError(f"layers {spec.layers}: fusion must be gated there, with its gate")
            readers[spec.layers[0]] = NgramReader(
                model.hidden_size,
                spec,
                design.gates[index],
                eps=model.rms_norm_eps,
                compressed_ids=_ids(spec, compressed_ids),
            )
    return readers


def _dense_embeddings(
    design: Design, model: DecoderConfig, compressed_ids: Tensor | None
) -> Mapping[int, nn.Module]:
    """What stands for the up-projection, by layer."""
    embeddings: dict[int, nn.Module] = {}
    for spec in design.ngrams:
        if spec.placement == "plne":
            embeddings[spec.layers[0]] = NgramEmbedding(
                model.vocab_size,
                model.intermediate_size,
                spec,
                compressed_ids=_ids(spec, compressed_ids),
            )
        elif spec.placement == "ple":
            embeddings[spec.layers[0]] = undrawn_embedding(
                spec.table_rows[0], model.intermediate_size
            )
    return embeddings
