"""Causal attention with rotary positions: grouped-query, and latent as in LongCat-Flash."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ngscale.architectures.ngscale_moe import DecoderConfig, Yarn
from ngscale.model.rms_norm import RMSNorm
from ngscale.model.state import DecoderState

_LATENT_EPS = 1e-6
"""Of the norms of both latents, whatever ``rms_norm_eps`` is (``modeling_longcat_flash.py``)."""


class Rotary(NamedTuple):
    """Cosine and sine of position * theta**(-2j/h) (arXiv:2104.09864), for h/2 pairs.

    [T, h/2], or [B, 1, T, h/2] where every sequence is at places of its own.
    """

    cos: Float[Tensor, "*B T h2"]
    sin: Float[Tensor, "*B T h2"]


def rotary(
    length: int, dim: int, theta: float, device: torch.device, yarn: Yarn | None = None
) -> Rotary:
    """Of the first ``length`` positions, float32."""
    exponents = torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim
    positions = torch.arange(length, device=device, dtype=torch.float32)
    frequencies = theta**-exponents
    if yarn is not None:
        low, width = yarn.ramp(dim, theta)
        stretched = ((torch.arange(dim // 2, device=device) - low) / width).clamp(0, 1)
        frequencies = frequencies * (1 - stretched + stretched / yarn.factor)
    angles = torch.outer(positions, frequencies)
    factor = 1.0 if yarn is None else yarn.attention_factor
    return Rotary(angles.cos() * factor, angles.sin() * factor)


def rotate(x: Float[Tensor, "... T h"], positions: Rotary) -> Tensor:
    """Rotate the pairs (j, j + h/2) of every head, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    return _turned(first, second, positions).to(x.dtype)


def rotate_neighbours(x: Float[Tensor, "... T h"], positions: Rotary) -> Tensor:
    """Rotate the pairs (2j, 2j + 1), as DeepSeek lays them out, and put all firsts before all
    seconds; queries and keys alike, so that their products are the same.
    """
    paired = x.float().reshape(*x.shape[:-1], -1, 2)
    return _turned(paired[..., 0], paired[..., 1], positions).to(x.dtype)


def _turned(first: Tensor, second: Tensor, positions: Rotary) -> Tensor:
    cos, sin = positions
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    """Causal grouped-query attention."""

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
        self, x: Float[Tensor, "B T D"], positions: Rotary, state: DecoderState | None = None
    ) -> Float[Tensor, "B T D"]:
        """What the block adds to the stream."""
        query = rotate(self._heads(self.q_proj(x)), positions)  # (B, H, T, h)
        key = rotate(self._heads(self.k_proj(x)), positions)  # (B, G, T, h)
        value = self._heads(self.v_proj(x))
        if state is None:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=True
            )
        else:
            key, value, seen = state.extend(self, key, value)
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=seen, enable_gqa=True
            )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))  # (B, T, H*h)
        return out

    def _heads(self, projected: Tensor) -> Tensor:
        batch, length, width = projected.shape
        return projected.view(batch, length, width // self.head_dim, self.head_dim).transpose(1, 2)


class LatentAttention(nn.Module):
    """Causal multi-head latent attention (arXiv:2405.04434), scaled as in LongCat-Flash.

    Source: transformers' ``modeling_longcat_flash.py``.
    """

    def __init__(self, model: DecoderConfig) -> None:
        super().__init__()
        D, H = model.hidden_size, model.num_attention_heads
        self.num_heads = H
        self.nope_dim, self.rope_dim = model.qk_nope_head_dim, model.qk_rope_head_dim
        self.value_dim, self.kv_rank = model.v_head_dim, model.kv_lora_rank
        self.q_a_proj = nn.Linear(D, model.q_lora_rank, bias=False)
        self.q_a_layernorm = RMSNorm(model.q_lora_rank, eps=_LATENT_EPS)
        self.q_b_proj = nn.Linear(
            model.q_lora_rank, H * (self.nope_dim + self.rope_dim), bias=False
        )
        self.kv_a_proj_with_mqa = nn.Linear(D, self.kv_rank + self.rope_dim, bias=False)
        self.kv_a_layernorm = RMSNorm(self.kv_rank, eps=_LATENT_EPS)
        self.kv_b_proj = nn.Linear(self.kv_rank, H * (self.nope_dim + self.value_dim), bias=False)
        self.o_proj = nn.Linear(H * self.value_dim, D, bias=False)
        self.query_scale = (D / model.q_lora_rank) ** 0.5 if model.mla_scale_lora else 1.0
        yarn = model.rope_scaling
        self.scale = (self.nope_dim + self.rope_dim) ** -0.5
        self.scale *= 1.0 if yarn is None else yarn.latent_factor
        self.latent_scale = (D / self.kv_rank) ** 0.5 if model.mla_scale_lora else 1.0

    def forward(
        self, x: Float[Tensor, "B T D"], positions: Rotary, state: DecoderState | None = None
    ) -> Float[Tensor, "B T D"]:
        """What the block adds to the stream."""
        H = self.num_heads
        query = self.query_scale * self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        batch, length = x.shape[:2]
        query = query.view(batch, length, H, -1).transpose(1, 2)  # (B, H, T, n + h)
        plain, turning = query.split([self.nope_dim, self.rope_dim], dim=-1)
        query = torch.cat([plain, rotate_neighbours(turning, positions)], dim=-1)
        latent, shared_key = self.kv_a_proj_with_mqa(x).split([self.kv_rank, self.rope_dim], dim=-1)
        expanded = self.kv_b_proj(self.latent_scale * self.kv_a_layernorm(latent))
        expanded = expanded.view(batch, length, H, -1).transpose(1, 2)  # (B, H, T, n + v)
        key, value = expanded.split([self.nope_dim, self.value_dim], dim=-1)
        turned = rotate_neighbours(shared_key.unsqueeze(1), positions)  # (B, 1, T, h)
        key = torch.cat([key, turned.expand(-1, H, -1, -1)], dim=-1)
        if state is None:
            mixed = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=self.scale
            )
        else:
            key, value, seen = state.extend(self, key, value)
            mixed = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=seen, scale=self.scale
            )
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))  # (B, T, H*v)
        return out
