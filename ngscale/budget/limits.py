"""What designs are sought for: a total and what it must fit."""

from dataclasses import dataclass

from ngscale.params import Dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a design must keep to."""

    total_parameters: int
    active_parameters: int | None = None
    """None: the model's own."""
    hbm_bytes: int | None = None
    """Of all devices together."""
    host_bytes: int | None = None
    """None: no table is kept there."""
    dtype: Dtype = "bf16"
    context_tokens: int = 8192
    num_sequences: int = 1
    cache_dtype: Dtype = "bf16"
    training_tokens: int | None = None
    source: str = "qwen"
    """Of loss differences (``evidence.differences.SOURCES``)."""
