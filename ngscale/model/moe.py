"""Mixture of SwiGLU experts with top-k routing, zero experts and shared experts.

Shapes: S tokens, D hidden, F expert width, X experts with weights, Z without, k experts per token,
R = S*k routed rows, sorted by expert; those of zero experts come last.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn
from torch.nn import functional

from ngscale.architectures.ngscale_moe import DecoderConfig
from ngscale.model.feed_forward import FeedForward
from ngscale.model.precision import autocast_dtype, without_autocast

_GROUPED_MM_ALIGNMENT = 16
"""Bytes a row must be a multiple of for the CUDA kernel of ``grouped_mm``."""
_MOST_PADDING = 8
"""Times the routed rows that the padded batch of ``batched_matmul`` may hold."""


class Routing(NamedTuple):
    """Where each token goes."""

    chosen: Int64[Tensor, "S k"]
    """Experts; X and above are zero experts."""
    weights: Float[Tensor, "S k"]
    counts: Int32[Tensor, " X+Z"]
    """Rows that each gets."""


class Router(nn.Module):
    """Scores, the top k of score + bias, weights from the scores alone.

    The correction bias steers the choice only, never the weights, and is no parameter: after each
    step the training loop calls ``balance``, which raises it for experts with less than the mean
    load and lowers it for the others, zero experts included. Source: DeepSeek-V3 (arXiv:2412.19437,
    sec. 2.1.2) and loss-free balancing (arXiv:2408.15664).

    ``eval_load`` [X+Z] counts the rows that each got in evaluation mode, until somebody zeroes it.

    ``balance_loss`` is, of the last forward in training, the sequence-wise loss of DeepSeek-V3's
    Eq. 17 to 20 without its coefficient; None where the coefficient is 0.
    """

    def __init__(self, model: DecoderConfig) -> None:
        super().__init__()
        num_routed = model.num_experts + model.num_zero_experts
        self.num_experts_per_tok = model.num_experts_per_tok
        self.scoring_func = model.scoring_func
        self.normalises = model.norm_topk_prob
        self.scaling_factor = model.routed_scaling_factor
        self.wants_balance_loss = model.router_aux_loss_coef > 0
        self.balance_loss: Tensor | None = None
        self.weight = nn.Parameter(torch.empty(num_routed, model.hidden_size))
        self.bias = nn.Parameter(torch.empty(num_routed)) if model.router_bias else None
        self.e_score_correction_bias: Tensor
        self.load: Tensor
        self.eval_load: Tensor
        self.register_buffer("e_score_correction_bias", torch.zeros(num_routed))
        self.register_buffer("load", torch.zeros(num_routed), persistent=False)
        eval_load = torch.zeros(num_routed, dtype=torch.int64)
        self.register_buffer("eval_load", eval_load, persistent=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Routing:
        """Choose for every token."""
        with without_autocast(x):  # bfloat16 would tie close scores
            bias = None if self.bias is None else self.bias.float()
            logits = functional.linear(x.float(), self.weight.float(), bias)  # (B, T, X+Z)
        scores = logits.sigmoid() if self.scoring_func == "sigmoid" else logits.softmax(dim=-1)
        biased = scores.detach() + self.e_score_correction_bias
        chosen = biased.topk(self.num_experts_per_tok, dim=-1, sorted=False).indices  # (B, T, k)
        weights = scores.gather(-1, chosen)
        if self.normalises:
            weights = weights / weights.sum(-1, keepdim=True)
        if self.scaling_factor != 1:
            weights = weights * self.scaling_factor
        # Not bincount: on CUDA it asks the host for the largest id.
        per_sequence = scores.new_zeros(len(x), len(self.load)).scatter_add_(
            1, chosen.flatten(1), scores.new_ones(()).expand_as(chosen.flatten(1))
        )
        counts = per_sequence.sum(0)
        if self.training:
            self.load += counts
            if self.wants_balance_loss:
                self.balance_loss = self._balance_loss(scores, per_sequence)
        else:
            self.eval_load += counts.long()
        return Routing(chosen.flatten(0, 1), weights.flatten(0, 1), counts.int())

    def _balance_loss(
        self, scores: Float[Tensor, "B T N"], per_sequence: Float[Tensor, "B N"]
    ) -> Float[Tensor, ""]:
        """``sum_i f_i P_i``, f_i = N/(k T) times the tokens that chose i, P_i their mean share."""
        length, num_routed = scores.shape[1:]
        frequency = per_sequence * num_routed / (self.num_experts_per_tok * length)
        share = (scores / scores.sum(-1, keepdim=True)).mean(1)
        return (frequency * share).sum(-1).mean()

    @torch.no_grad()
    def balance(self, rate: float) -> None:
        """Move each expert's bias by ``rate`` against its load since the last call."""
        self.e_score_correction_bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Experts(nn.Module):
    """The X experts of a layer, stacked (the layout of transformers 5)."""

    def __init__(self, hidden_size: int, intermediate_size: int, num_experts: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(
            torch.empty(num_experts, 2 * intermediate_size, hidden_size)
        )
        self.down_proj = nn.Parameter(torch.empty(num_experts, hidden_size, intermediate_size))

    def forward(
        self,
        rows: Float[Tensor, "R D"],
        weights: Float[Tensor, "R 1"],
        counts: Int32[Tensor, " X"],
        *,
        has_rest: bool,
    ) -> Float[Tensor, "R D"]:
        """``weight * down( silu(gate x) * up x )``; rows are sorted by expert, ``counts`` of each.

        With ``has_rest`` there may be rows behind those of all experts, and they come out as 0. The
        weight goes in where a row is narrowest.
        """
        both = expert_matmul(rows, self.gate_up_proj, counts, has_rest=has_rest)
        gate, up = both.chunk(2, dim=-1)  # (R, F) each
        inner = functional.silu(gate) * up
        inner = inner * weights.to(inner.dtype)
        return expert_matmul(inner, self.down_proj, counts, has_rest=has_rest)


class MixtureOfExperts(nn.Module):
    """[B, T, D] -> [B, T, D]: the sum over each token's k experts, by the router's weights.

    A zero expert returns its token (LongCat-Flash, arXiv:2509.01322, sec. 2.1): its rows go through
    no matrix. Shared experts see every token, with weight 1.
    """

    def __init__(self, model: DecoderConfig) -> None:
        super().__init__()
        self.num_experts, self.num_zero_experts = model.num_experts, model.num_zero_experts
        self.gate = Router(model)
        self.experts = Experts(model.hidden_size, model.moe_intermediate_size, model.num_experts)
        self.shared_experts: FeedForward | None = None
        if model.num_shared_experts:
            width = model.num_shared_experts * model.moe_intermediate_size
            self.shared_experts = FeedForward(model.hidden_size, width)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Route, run the experts on their rows, put the rows back in place."""
        flat = x.flatten(0, 1)  # (S, D)
        chosen, weights, counts = self.gate(x)
        order = chosen.flatten().argsort(stable=True)  # (R,) routed rows, sorted by expert
        counts = counts[: self.num_experts]
        has_rest = self.num_zero_experts > 0
        if has_rest and x.device.type == "cpu" and not torch.compiler.is_compiling():
            order = order[: int(counts.sum())]  # the host can read it there: fewer rows to move
            has_rest = False
        rows = _Dispatch.apply(flat, order, chosen.shape[1])  # type: ignore[no-untyped-call]
        of_rows = weights.flatten()[order].unsqueeze(1)
        out = self.experts(rows, of_rows, counts, has_rest=has_rest)
        mixed: Tensor = _Combine.apply(out, order, chosen.shape[1], len(flat))  # type: ignore[no-untyped-call]
        if self.num_zero_experts:
            kept = weights.masked_fill(chosen < self.num_experts, 0).sum(1, keepdim=True)
            mixed = mixed + kept.to(flat.dtype) * flat
        if self.shared_experts is not None:
            mixed = mixed + self.shared_experts(flat)
        return mixed.view_as(x)


class _Dispatch(torch.autograd.Function):
    """Rows of tokens in the order of their experts; its gradient is ``_Combine``, and conversely.

    ``order`` names each (token, choice) once at most, so neither needs an order of addition.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, order: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(order)
        ctx.k, ctx.num_tokens = k, len(tokens)
        return tokens.index_select(0, order // k)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (order,) = ctx.saved_tensors
        return _sum_of_choices(grads[0], order, ctx.k, ctx.num_tokens), None, None


class _Combine(torch.autograd.Function):
    """The sum of each token's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, k: int, num_tokens: int) -> Tensor:
        ctx.save_for_backward(order)
        ctx.k = k
        return _sum_of_choices(rows, order, k, num_tokens)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (order,) = ctx.saved_tensors
        return grads[0].index_select(0, order // ctx.k), None, None, None


def _sum_of_choices(
    rows: Float[Tensor, "R D"], order: Int64[Tensor, " R"], k: int, num_tokens: int
) -> Float[Tensor, "S D"]:
    """By a gather at the inverse of ``order``; rows that are left out are 0.

    A bag adds up as it reads: 0.33 ms where a gather and a sum take 4.2 (8,192 rows of 256 columns,
    float32, one core).
    """
    places = torch.arange(len(order), device=order.device)
    if len(order) == num_tokens * k:
        back = torch.empty_like(order).scatter_(0, order, places)
    else:
        back = order.new_full((num_tokens * k,), len(order)).scatter_(0, order, places)
        rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    summed: Tensor = functional.embedding_bag(back.view(num_tokens, k), rows, mode="sum")
    return summed


def expert_matmul(
    rows: Float[Tensor, "R I"],
    weight: Float[Tensor, "X O I"],
    counts: Int32[Tensor, " X"],
    *,
    has_rest: bool = True,
) -> Float[Tensor, "R O"]:
    """``rows @ weight[expert].T`` for rows sorted by expert, in autocast's dtype where it is on.

    By the first that is legal: one grouped kernel, one padded batch, expert by expert. Rows behind
    those of all experts come out as 0; without ``has_rest`` there are none.
    """
    if (dtype := autocast_dtype(rows)) is not None:
        rows, weight = rows.to(dtype), weight.to(dtype)
    if can_group(rows, weight):
        return grouped_matmul(rows, weight, counts, has_rest=has_rest)
    if can_batch(weight):
        return batched_matmul(rows, weight, counts)
    return looped_matmul(rows, weight, counts)


def can_group(rows: Tensor, weight: Tensor) -> bool:
    """Whether ``grouped_mm`` takes these without a host sync: bf16 with aligned rows on CUDA, any
    float on a CPU, unless it is traced, when it takes bf16 alone.
    """
    if not hasattr(functional, "grouped_mm"):
        return False
    if rows.device.type == "cpu" and not torch.compiler.is_compiling():
        return True
    aligned = all(
        size * rows.element_size() % _GROUPED_MM_ALIGNMENT == 0 for size in weight.shape[1:]
    )
    return rows.dtype == torch.bfloat16 and aligned


def can_batch(weight: Tensor) -> bool:
    """Whether a batch that could hold all rows at every expert is not too large."""
    return len(weight) <= _MOST_PADDING


def grouped_matmul(
    rows: Float[Tensor, "R I"],
    weight: Float[Tensor, "X O I"],
    counts: Int32[Tensor, " X"],
    *,
    has_rest: bool = True,
) -> Float[Tensor, "R O"]:
    """One kernel for all experts, and no host sync on CUDA.

    ``grouped_mm`` checks no value of its offsets: from wrong ones it makes wrong rows, and rows
    behind the last it leaves as they were in memory. So the offsets are checked here, on the
    device, and those rows are set to 0, in the gradient too.

    Raises:
        RuntimeError: the counts are not those of ``rows``.
    """
    ends = counts.cumsum(0, dtype=torch.int32)
    check_ends(ends, len(rows), has_rest=has_rest)
    out: Tensor = _Grouped.apply(rows, weight, ends, has_rest)  # type: ignore[no-untyped-call]
    return out


def check_ends(ends: Int32[Tensor, " X"], num_rows: int, *, has_rest: bool) -> None:
    """Offsets of ``grouped_mm`` must rise to the number of rows, or to fewer with ``has_rest``.

    Raises:
        RuntimeError: they do not (on CUDA at the next synchronisation).
    """
    rises = (ends.diff() >= 0).all() & (ends[0] >= 0)
    reaches = ends[-1] <= num_rows if has_rest else ends[-1] == num_rows
    torch._assert_async(rises & reaches, "the experts' row counts are not those of the rows")


class _Grouped(torch.autograd.Function):
    """``grouped_mm`` and its gradients, rows behind the last offset being 0 in all."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, ends: Tensor, has_rest: bool) -> Tensor:
        ctx.save_for_backward(rows, weight, ends)
        ctx.has_rest = has_rest
        return _grouped_rows(rows, weight.transpose(1, 2), ends, has_rest)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, ends = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_rows, grad_weight = None, None
        if ctx.needs_input_grad[0]:
            grad_rows = _grouped_rows(grad, weight, ends, ctx.has_rest)
        if ctx.needs_input_grad[1]:
            grad_weight = functional.grouped_mm(grad.T, rows, offs=ends)  # (X, O, I)
        return grad_rows, grad_weight, None, None


def _grouped_rows(
    rows: Tensor, weight: Float[Tensor, "X I O"], ends: Tensor, has_rest: bool
) -> Tensor:
    out: Tensor = functional.grouped_mm(rows, weight, offs=ends)
    if not has_rest:
        return out
    behind = torch.arange(len(rows), device=rows.device) >= ends[-1]
    return out.masked_fill_(behind.unsqueeze(1), 0)


def batched_matmul(
    rows: Float[Tensor, "R I"], weight: Float[Tensor, "X O I"], counts: Int32[Tensor, " X"]
) -> Float[Tensor, "R O"]:
    """One batched product over [X, R] places, most of them empty; no host sync."""
    is_own = _expert_of(rows, counts).unsqueeze(0) == torch.arange(
        len(weight), device=rows.device
    ).unsqueeze(1)  # (X, R)
    padded = is_own.unsqueeze(2) * rows  # (X, R, I)
    return torch.bmm(padded, weight.transpose(1, 2)).sum(0)


def _expert_of(rows: Tensor, counts: Int32[Tensor, " X"]) -> Int64[Tensor, " R"]:
    """X for rows behind those of all experts."""
    places = torch.arange(len(rows), device=rows.device, dtype=torch.int32)
    return torch.searchsorted(counts.cumsum(0, dtype=torch.int32), places, right=True)


def looped_matmul(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Expert by expert, for devices and dtypes without ``grouped_mm``; reads counts on the host."""
    sizes = counts.tolist()
    parts = torch.split(rows, [*sizes, len(rows) - sum(sizes)])
    products = [part @ w.T for part, w in zip(parts[:-1], weight.unbind(0), strict=True)]
    return torch.cat([*products, rows.new_zeros(len(parts[-1]), weight.shape[1])])
