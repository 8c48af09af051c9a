"""A decoder written out sequence by sequence and head by head, from a state dict alone."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ngscale.architectures.ngscale_moe import DecoderConfig

State = dict[str, Tensor]


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def turned(x: Tensor, theta: float) -> Tensor:
    """RoPE on [T, h], pairs (j, j + h/2), by complex numbers."""
    length, dim = x.shape
    half = dim // 2
    out = torch.empty_like(x)
    for p in range(length):
        for j in range(half):
            number = complex(float(x[p, j]), float(x[p, j + half]))
            angle = p * theta ** (-2 * j / dim)
            number *= complex(math.cos(angle), math.sin(angle))
            out[p, j], out[p, j + half] = number.real, number.imag
    return out


def attention(state: State, prefix: str, x: Tensor, config: DecoderConfig) -> Tensor:
    """[T, D] -> [T, D]."""
    h, heads = config.head_dim, []
    q, k, v = (x @ state[f"{prefix}{name}_proj.weight"].T for name in "qkv")
    shared = config.num_attention_heads // config.num_key_value_heads
    for head in range(config.num_attention_heads):
        mine, theirs = slice(head * h, (head + 1) * h), head // shared
        read = slice(theirs * h, (theirs + 1) * h)
        query, key = turned(q[:, mine], config.rope_theta), turned(k[:, read], config.rope_theta)
        scores = query @ key.T / math.sqrt(h)
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, read])
    return torch.cat(heads, -1) @ state[f"{prefix}o_proj.weight"].T


def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (functional.silu(x @ gate.T) * (x @ up.T)) @ down.T


def dense(state: State, prefix: str, x: Tensor) -> Tensor:
    return swiglu(x, *(state[f"{prefix}{name}_proj.weight"] for name in ("gate", "up", "down")))


def experts(state: State, prefix: str, x: Tensor, config: DecoderConfig) -> Tensor:
    """[T, D] -> [T, D], token by token."""
    out = []
    for token in x:
        logits = state[f"{prefix}gate.weight"] @ token
        scores = logits.sigmoid() if config.scoring_func == "sigmoid" else logits.softmax(0)
        chosen = scores.topk(config.num_experts_per_tok).indices
        total = scores[chosen].sum() if config.norm_topk_prob else 1.0
        mixed = torch.zeros_like(token)
        for expert in chosen:
            weight = config.routed_scaling_factor * scores[expert] / total
            one = token
            if expert < config.num_experts:
                gate, up = state[f"{prefix}experts.gate_up_proj"][expert].chunk(2)
                one = swiglu(token, gate, up, state[f"{prefix}experts.down_proj"][expert])
            mixed = mixed + weight * one
        out.append(mixed)
    mixed = torch.stack(out)
    if config.num_shared_experts:
        mixed = mixed + dense(state, f"{prefix}shared_experts.", x)
    return mixed


def logits(state: State, start: Tensor, config: DecoderConfig) -> Tensor:
    """[T, D] -> [T, V0] from the start of the stream, without n-grams in layers."""
    x, eps = start, config.rms_norm_eps
    for index in range(config.num_hidden_layers):
        at = f"layers.{index}."
        if config.block == "standard":
            x = x + attention(
                state, f"{at}self_attn.", rms(x, state[f"{at}input_layernorm.weight"], eps), config
            )
            normed = rms(x, state[f"{at}post_attention_layernorm.weight"], eps)
            x = x + experts(state, f"{at}mlp.", normed, config)
            continue
        shortcut = torch.zeros_like(x)
        for half in range(2):
            normed = rms(x, state[f"{at}input_layernorm.{half}.weight"], eps)
            x = x + attention(state, f"{at}self_attn.{half}.", normed, config)
            normed = rms(x, state[f"{at}post_attention_layernorm.{half}.weight"], eps)
            if half == 0:
                shortcut = experts(state, f"{at}mlp.", normed, config)
            x = x + dense(state, f"{at}mlps.{half}.", normed)
        x = x + shortcut
    return rms(x, state["norm.weight"], eps) @ state["lm_head.weight"].T
