"""Forward passes whose every position is bit-equal however tokens are cut and batched (CPU).

A matrix product rounds by its number of rows, a vectorised function by where its loop ends, a sum
by its length. In this mode each is computed in blocks of one shape, so that a row's bits depend on
that row alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ROWS = 16
"""Of a block: in blocks of 4 and more, MKL gave a row the same bits at every place, and 16 took no
longer than whole products (300 rows, 14 shapes, AVX2)."""
_KEYS = 64
"""Of a block of attention."""
_LANES = 64
"""Elements that vector loops take without a remainder."""


@contextmanager
def row_invariant() -> Iterator[None]:
    """Compute so, on one thread: what several share is cut by their number.

    For forward passes in float32 or float64 on a CPU, without gradients.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), _RowInvariant():
            yield
    finally:
        torch.set_num_threads(before)


class _RowInvariant(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _INSTEAD.get(func, func)(*args, **(kwargs or {}))


def _rows_matmul(x: Float[Tensor, "*B I"], weight: Float[Tensor, "O I"]) -> Tensor:
    """``x @ weight.T``; where the weight lay as [I, O], 5 or 6 columns told places apart."""
    weight, flat = weight.contiguous(), x.reshape(-1, x.shape[-1])
    blocks = functional.pad(flat, (0, 0, 0, -len(flat) % _ROWS)).view(-1, _ROWS, x.shape[-1])
    out = torch.bmm(blocks, weight.T.unsqueeze(0).expand(len(blocks), -1, -1))
    return out.flatten(0, 1)[: len(flat)].view(*x.shape[:-1], len(weight))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out = _rows_matmul(x, weight)
    return out if bias is None else out + bias


def _addmm(
    added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    return beta * added + alpha * _rows_matmul(left, right.T)


def _grouped_mm(
    rows: Float[Tensor, "R I"],
    weight: Float[Tensor, "X I O"],
    *,
    offs: Int32[Tensor, " X"],
    **_unset: None,
) -> Float[Tensor, "R O"]:
    parts = torch.tensor_split(rows, offs.tolist())
    products = [_rows_matmul(part, w.T) for part, w in zip(parts, weight, strict=False)]
    return torch.cat([*products, rows.new_zeros(len(parts[-1]), weight.shape[2])])


def _attention(
    query: Float[Tensor, "B H T h"],
    key: Float[Tensor, "B G S h"],
    value: Float[Tensor, "B G S v"],
    attn_mask: Bool[Tensor, "B 1 T S"] | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "B H T v"]:
    """Softmax of every query over blocks of keys, their sums added from first to last."""
    batch, heads, length, width = query.shape
    repeats = heads // key.shape[1] if enable_gqa else 1
    key, value = _key_blocks(key, repeats), _key_blocks(value, repeats)  # (B, H, n, 64, h)
    num_blocks = key.shape[2]
    rows = functional.pad(query, (0, 0, 0, -length % _ROWS)).reshape(
        batch, heads, 1, -1, _ROWS, width
    )
    rows = rows.expand(-1, -1, num_blocks, -1, -1, -1)
    scores = _blocks_matmul(rows, key.unsqueeze(3))  # (B, H, n, r, 16, 64)
    scores = scores.flatten(3, 4)[:, :, :, :length] * (width**-0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(length, length, dtype=torch.bool).tril().expand(batch, 1, -1, -1)
    else:
        assert attn_mask is not None
        seen = attn_mask
    seen = functional.pad(seen, (0, num_blocks * _KEYS - seen.shape[-1]))
    seen = seen.view(*seen.shape[:-1], num_blocks, _KEYS).movedim(-2, 2)  # (B, 1, n, T, 64)
    scores = scores.masked_fill(~seen, -torch.inf)
    largest = scores.amax((2, 4), keepdim=True)
    parts = _padded(torch.exp)(scores - largest)
    total = _in_turn(_folded_sum(parts, -1, keepdim=True))  # (B, H, T, 1)
    parts = functional.pad(parts, (0, 0, 0, -length % _ROWS))
    parts = parts.view(*parts.shape[:3], -1, _ROWS, _KEYS)
    value = value.transpose(-1, -2).contiguous()
    mixed = _blocks_matmul(parts, value.unsqueeze(3)).flatten(3, 4)[:, :, :, :length]
    return _in_turn(mixed) / total


def _key_blocks(x: Float[Tensor, "B G S h"], repeats: int) -> Float[Tensor, "B H n 64 h"]:
    x = functional.pad(x, (0, 0, 0, -x.shape[2] % _KEYS))
    x = x.reshape(*x.shape[:2], -1, _KEYS, x.shape[-1])
    return x.repeat_interleave(repeats, dim=1)


def _blocks_matmul(left: Float[Tensor, "... R I"], right: Float[Tensor, "... O I"]) -> Tensor:
    """``left @ right.T``, one product a block."""
    right = right.expand(*left.shape[:-2], -1, -1)
    out = torch.bmm(left.flatten(0, -3), right.flatten(0, -3).transpose(1, 2))
    return out.view(*left.shape[:-1], -1)


def _in_turn(blocks: Float[Tensor, "B H n T v"]) -> Float[Tensor, "B H T v"]:
    """The sum over blocks; those behind a query's keys add exact zeros."""
    total, *rest = blocks.unbind(2)
    for one in rest:
        total = total + one
    return total


def _folded_sum(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    """By halves, an order that the length of this dimension alone decides."""
    x = x.movedim(dim, -1)
    x = functional.pad(x, (0, (1 << (x.shape[-1] - 1).bit_length()) - x.shape[-1]))
    while x.shape[-1] > 1:
        first, second = x.chunk(2, dim=-1)
        x = first + second
    return x.movedim(-1, dim) if keepdim else x.squeeze(-1)


def _sum(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Integers and whole sums are no matter of rows."""
    if dim is None or not x.is_floating_point():
        return x.sum() if dim is None else x.sum(dim, keepdim=keepdim)
    return _folded_sum(x, dim, keepdim)


def _rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    assert weight is not None
    assert eps is not None
    mean = _folded_sum(x * x, -1, keepdim=True) / x.shape[-1]
    return x / (mean + eps).sqrt() * weight


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    assert weight is not None
    assert bias is None
    x = x - _folded_sum(x, -1, keepdim=True) / x.shape[-1]
    return _rms_norm(x, shape, weight, eps)


def _softmax(x: Tensor, dim: int) -> Tensor:
    parts = _padded(torch.exp)(x - x.amax(dim, keepdim=True))
    return parts / _folded_sum(parts, dim, keepdim=True)


def _conv1d(
    x: Float[Tensor, "B D T"],
    weight: Float[Tensor, "D 1 k"],
    bias: None,
    stride: tuple[int],
    padding: tuple[int],
    dilation: tuple[int],
    groups: int,
) -> Tensor:
    """Depthwise, tap by tap."""
    assert groups == len(weight)
    taps, step = weight.shape[2], dilation[0]
    length = x.shape[2] - (taps - 1) * step
    total = torch.zeros_like(x[:, :, :length])
    for tap in range(taps):
        total = total + weight[:, :, tap] * x[:, :, tap * step : tap * step + length]
    return total


def _padded(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Elementwise, without a remainder behind the vector loop."""

    def on_lanes(x: Tensor, inplace: bool = False) -> Tensor:
        flat = x.reshape(-1)
        return function(functional.pad(flat, (0, -len(flat) % _LANES)))[: len(flat)].view(x.shape)

    return on_lanes


_INSTEAD: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.linear: _linear,
    torch.addmm: _addmm,
    torch._grouped_mm: _grouped_mm,
    functional.scaled_dot_product_attention: _attention,
    functional.rms_norm: _rms_norm,
    functional.layer_norm: _layer_norm,
    functional.silu: _padded(functional.silu),
    torch.conv1d: _conv1d,
    Tensor.sum: _sum,
    Tensor.softmax: _softmax,
    Tensor.sigmoid: _padded(torch.sigmoid),
    Tensor.cos: _padded(torch.cos),
    Tensor.sin: _padded(torch.sin),
}
