"""The decoder: pre-norm blocks of grouped-query attention and top-k experts, untied lm_head.

Module names are those of Hugging Face decoders (``embed_tokens``, ``layers``, ``input_layernorm``,
``self_attn``, ``post_attention_layernorm``, ``mlp``, ``norm``, ``lm_head``), and the outputs of
``embed_tokens``, ``self_attn`` and ``mlp`` are exactly what the residual stream starts with and
is added to.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.design import Design
from ngscale.model.embedding import NgramEmbedding, embedding_std
from ngscale.model.initialise import fill_normal, fill_slices
from ngscale.model.moe import MixtureOfExperts
from ngscale.tensor_groups import group_of


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, model: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = model.head_dim
        query_dim = model.num_attention_heads * model.head_dim
        key_value_dim = model.num_key_value_heads * model.head_dim
        self.q_proj = nn.Linear(model.hidden_size, query_dim, bias=False)
        self.k_proj = nn.Linear(model.hidden_size, key_value_dim, bias=False)
        self.v_proj = nn.Linear(model.hidden_size, key_value_dim, bias=False)
        self.o_proj = nn.Linear(query_dim, model.hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], cos: Float[Tensor, "T h"], sin: Float[Tensor, "T h"]
    ) -> Float[Tensor, "B T D"]:
        """What the block adds to the stream."""
        query = rotate(self._heads(self.q_proj(x)), cos, sin)  # (B, H, T, h)
        key = rotate(self._heads(self.k_proj(x)), cos, sin)  # (B, G, T, h)
        value = self._heads(self.v_proj(x))
        mixed = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))  # (B, T, H*h)
        return out

    def _heads(self, projected: Tensor) -> Tensor:
        batch, length, width = projected.shape
        return projected.view(batch, length, width // self.head_dim, self.head_dim).transpose(1, 2)


def rotary(
    length: int, head_dim: int, theta: float, device: torch.device
) -> tuple[Float[Tensor, "T h"], Float[Tensor, "T h"]]:
    """Cosine and sine of position * theta**(-2j/h) (arXiv:2104.09864), each half repeated."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    positions = torch.arange(length, device=device, dtype=torch.float32)
    angles = torch.outer(positions, theta**-exponents).repeat(1, 2)  # (T, h)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (j, j + h/2) of every head, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)


class Block(nn.Module):
    """One layer: the stream plus attention, plus experts."""

    def __init__(self, model: DecoderConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.self_attn = Attention(model)
        self.post_attention_layernorm = nn.RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.mlp = MixtureOfExperts(
            model.hidden_size,
            model.moe_intermediate_size,
            model.num_experts,
            model.num_experts_per_tok,
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The stream after this layer."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        after: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return after


class Decoder(nn.Module):
    """Token ids [B, T] -> logits [B, T, V0]; weights are drawn by ``initialise``.

    Raises:
        SpecError: the design's model is of another family.
    """

    def __init__(self, design: Design) -> None:
        super().__init__()
        model = DecoderConfig.of(design.model)
        self.config = model
        self.embed_tokens: NgramEmbedding | nn.Embedding
        if design.ngram is None:
            self.embed_tokens = nn.Embedding(model.vocab_size, model.hidden_size)
        else:
            self.embed_tokens = NgramEmbedding(model.vocab_size, model.hidden_size, design.ngram)
        self.layers = nn.ModuleList(Block(model) for _ in range(model.num_hidden_layers))
        self.norm = nn.RMSNorm(model.hidden_size, eps=model.rms_norm_eps)
        self.lm_head = nn.Linear(model.hidden_size, model.vocab_size, bias=False)

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T V0"]:
        """Next-token logits at every position."""
        cos, sin = rotary(
            tokens.shape[1], self.config.head_dim, self.config.rope_theta, tokens.device
        )
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.lm_head(self.norm(x))
        return logits

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights; those two designs share start equal (``model/initialise.py``).

        Matrices get std ``1/sqrt(fan_in)``; the ones that write into the stream (``o_proj``,
        ``down_proj``) are divided by ``sqrt(2 * layers)`` as in GPT-2, so that the stream's
        variance does not grow with depth.
        """
        if isinstance(self.embed_tokens, NgramEmbedding):
            self.embed_tokens.initialise(seed)
        else:
            words = self.embed_tokens.weight
            std = embedding_std(words.shape[1])
            fill_normal(words, std=std, seed=seed, name="word_embeddings")
        into_stream = 1 / math.sqrt(2 * len(self.layers))
        for name, weight in self.named_parameters():
            if name.startswith("embed_tokens."):
                continue
            if group_of(name) == "norms":
                weight.fill_(1.0)
                continue
            scale = into_stream if name.endswith(("o_proj.weight", "down_proj")) else 1.0
            fill = fill_slices if group_of(name) in ("experts", "router") else fill_normal
            fill(weight, std=scale / math.sqrt(weight.shape[-1]), seed=seed, name=name)
        for layer in self.layers:
            assert isinstance(layer, Block)
            layer.mlp.gate.e_score_correction_bias.zero_()

    def balance_experts(self, rate: float) -> None:
        """After an optimiser step: steer every router towards equal load."""
        for layer in self.layers:
            assert isinstance(layer, Block)
            layer.mlp.gate.balance(rate)
