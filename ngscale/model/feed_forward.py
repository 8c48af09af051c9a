"""Dense SwiGLU blocks: plain, and with an embedding instead of the up-projection (PLE, PLNE)."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ngscale.model.embedding import embed
from ngscale.model.state import DecoderState


class FeedForward(nn.Module):
    """``down( silu(gate x) * up x )``."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(
        self,
        x: Float[Tensor, "*B D"],
        tokens: Int64[Tensor, "B T"] | None = None,
        state: DecoderState | None = None,
    ) -> Float[Tensor, "*B D"]:
        """What the block adds to the stream; tokens and state are not looked at."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class EmbeddedFeedForward(nn.Module):
    """``down( silu(gate x) * e(tokens) )`` (arXiv:2601.21204 Eq. 4 and 5).

    e is a word embedding of ``intermediate_size`` columns (PLE), or one with n-gram tables (PLNE).
    """

    def __init__(self, hidden_size: int, intermediate_size: int, embedding: nn.Module) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.embedding = embedding
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        tokens: Int64[Tensor, "B T"],
        state: DecoderState | None = None,
    ) -> Float[Tensor, "B T D"]:
        """What the block adds to the stream."""
        columns = embed(self.embedding, tokens, state)
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * columns)
        return out
