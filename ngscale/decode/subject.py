"""What is decoded: a checkpoint, its draft model, texts cut into prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ngscale.artefacts import file_digest
from ngscale.errors import InputError, UsageError
from ngscale.model.checkpoint import CONFIG_NAME, load_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.device import pick_device
from ngscale.model.embedding import NgramEmbedding
from ngscale.safetensors_header import weight_files

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def dtype_of(name: str) -> torch.dtype:
    """What ``--dtype`` names.

    Raises:
        UsageError: none that is taken.
    """
    if name not in DTYPES:
        raise UsageError(f"--dtype {name}: takes {', '.join(DTYPES)}")
    return DTYPES[name]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A decoder on its device."""

    decoder: Decoder
    name: str
    files: dict[str, str]
    """File name -> sha256."""
    max_tokens: int | None
    """``max_position_embeddings``, where the config has it."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.decoder.norm.weight.device

    @property
    def embedding(self) -> NgramEmbedding:
        """What table drafts read.

        Raises:
            UsageError: there are no n-gram tables at the input.
        """
        found = self.decoder.embed_tokens
        if not isinstance(found, NgramEmbedding):
            raise UsageError(f"--draft table: {self.name} has no n-gram tables at its input")
        return found

    def described(self) -> dict[str, Any]:
        """For the record."""
        model = self.decoder.config
        return {
            "name": self.name,
            "hidden_size": model.hidden_size,
            "num_hidden_layers": model.num_hidden_layers,
            "vocab_size": model.vocab_size,
            "num_parameters": sum(p.numel() for p in self.decoder.parameters()),
            "sha256": self.files,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """A domain: prompts from text that nothing was trained on."""

    name: str
    prompts: Int64[np.ndarray, "n P"]
    calibration: Int64[np.ndarray, "n P"]
    """Other ones, for thresholds alone."""


def load_subject(directory: Path, *, device: str, dtype: str) -> Subject:
    """Read a checkpoint of ngscale's decoder or of LongCat-Flash.

    Raises:
        InputError: it is missing, broken or of another family, or a weight is not finite.
        UnsafeInputError: its weights are pickled, or a name leads out of the directory.
        UsageError: device or dtype is not there.
    """
    stored = dtype_of(dtype)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; decode takes a checkpoint's directory")
    place = pick_device(device)
    decoder, design = load_decoder(directory)
    longest = design.model.config.get("max_position_embeddings")
    files = [directory / CONFIG_NAME, *weight_files(directory)]
    return Subject(
        decoder=decoder.to(place, stored),
        name=directory.resolve().name,
        files={path.name: file_digest(path) for path in files},
        max_tokens=longest if isinstance(longest, int) else None,
    )


def check_draft_model(subject: Subject, draft: Subject) -> None:
    """Refuse a draft model of another vocabulary.

    Raises:
        InputError: names both sizes.
    """
    theirs, ours = draft.decoder.config.vocab_size, subject.decoder.config.vocab_size
    if theirs != ours:
        raise InputError(
            f"--draft-model {draft.name}: has a vocabulary of {theirs}, {subject.name} of {ours}; "
            "a draft model shares the vocabulary"
        )


def check_lengths(subject: Subject, *, prompt_tokens: int, new_tokens: int, draft: int) -> None:
    """Refuse contexts beyond the model's.

    Raises:
        UsageError: names the longest.
    """
    needed = prompt_tokens + new_tokens + draft
    if subject.max_tokens is not None and needed > subject.max_tokens:
        raise UsageError(
            f"--prompt-tokens {prompt_tokens} --new-tokens {new_tokens}: with a draft of {draft} "
            f"they need {needed} positions, {subject.name} has max_position_embeddings "
            f"{subject.max_tokens}; ask for fewer"
        )


def check_ids(ids: Int64[np.ndarray, "n P"], vocab_size: int, name: str) -> None:
    """Refuse ids without a row.

    Raises:
        InputError: names the largest.
    """
    if len(ids) and (int(ids.max()) >= vocab_size or int(ids.min()) < 0):
        raise InputError(
            f"{name}: has id {int(ids.max())}, the model's vocabulary ends at {vocab_size - 1}; "
            "--tokenizer takes the one it was trained with"
        )


def on_device(ids: Int64[np.ndarray, "n P"], device: torch.device) -> Tensor:
    """A copy as a tensor."""
    return torch.from_numpy(ids.astype(np.int64)).to(device)
