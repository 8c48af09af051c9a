"""What the user asked for, and what this machine lacks."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngscale.budget.limits import Limits
from ngscale.plan.target import Target
from ngscale.tokens import TokenStream

Source = tuple[TokenStream, Mapping[str, Any]]
"""Text as ids, and what the record says of corpus and tokenizer."""
ReadText = Callable[[str | None], Source]
"""Text by a tokenizer: the default one for None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Where ids come from."""

    read: ReadText
    tokenizer: str | None
    """For the sizes; proxies have small vocabularies with tokenizers of their own."""
    is_ids: bool
    """Whether the corpus is ids already, which no other tokenizer can encode again."""
    num_bytes: int
    """Of the files, for estimates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One plan."""

    target: Target
    limits: Limits | None
    """None of a target that is no whole design."""
    text: Text | None
    """None: arithmetic alone was asked for."""
    hours: float | None
    """Bound on the whole plan; None: what the device is good for."""
    tokens: int | None
    """Training tokens per run, instead of a bound."""
    num_seeds: int
    num_candidates: int | None
    """Trained at most; None: as many as the time is enough for."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    argv: tuple[str, ...]
    """The options that say what text is read, for the commands in the stages' reports."""
    named: str
    """The target as it was typed."""
    root: Path
    started: float
    """A ``time.monotonic()``."""


DEFAULT_HOURS = {"cpu": 0.15, "cuda": 4.0}


def has_torch() -> bool:
    """Whether what training needs (extra ``[torch]``) is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "safetensors"))


def device_type(request: Request) -> str:
    """``cuda`` where there is one and it is allowed.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    if not has_torch():
        return "cpu"
    from ngscale.model.device import pick_device

    return pick_device(request.device).type


def hours_of(request: Request) -> float | None:
    """The bound on the whole plan; None where tokens are given."""
    if request.tokens is not None:
        return None
    return request.hours or DEFAULT_HOURS[device_type(request)]
