"""RMSNorm in the dtype of its weight: autocast hands it bfloat16 and keeps the weight float32."""

from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.RMSNorm):
    """``weight * x / sqrt(mean(x**2) + eps)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any leading shape."""
        out: Tensor = functional.rms_norm(
            x.to(self.weight.dtype), self.normalized_shape, self.weight, self.eps
        )
        return out
