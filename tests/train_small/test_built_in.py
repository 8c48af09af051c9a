"""The decoder that a verb without a checkpoint gets."""

from pathlib import Path

import numpy as np
import torch

from ngscale.model.checkpoint import load_decoder
from ngscale.tokens import TokenStream
from ngscale.train_small.built_in import built_in_checkpoint
from ngscale.train_small.config import DEFAULT_DESIGN
from ngscale.train_small.data import cut_blocks


def test_it_is_trained_once_and_found_again(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(1, 4096, 20_000).astype(np.uint32)
    stream = TokenStream(
        tokens=tokens,
        doc_starts=np.arange(0, 20_001, 500),
        vocab_size=4096,
        num_bytes=0,
    )
    blocks = cut_blocks(
        stream, separator=0, seq_len=256, held_out_frac=0.05, section_tokens=4096, min_train=4
    )
    steps: list[int] = []
    place = built_in_checkpoint(stream, blocks, tmp_path, steps=2, advance=steps.append)
    assert sum(steps) == 2
    decoder, design = load_decoder(place)
    assert design == DEFAULT_DESIGN
    before = (place / "model.safetensors").stat().st_mtime_ns
    assert built_in_checkpoint(stream, blocks, tmp_path, steps=2) == place
    assert (place / "model.safetensors").stat().st_mtime_ns == before
    other = built_in_checkpoint(stream, blocks, tmp_path, steps=1)
    assert other != place
    again, _ = load_decoder(other)
    assert not torch.equal(again.lm_head.weight, decoder.lm_head.weight)
