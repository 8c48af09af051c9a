"""Checkpoints: what is saved comes back, what does not fit is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ngscale.design import Design
from ngscale.errors import InputError
from ngscale.model.checkpoint import load_decoder, save_decoder
from ngscale.model.decoder import Decoder
from tests.model.small import DESIGN, GATED, PLAIN, PLE, PLNE, SHORTCUT, amplified


@pytest.mark.parametrize(
    "design", [DESIGN, PLAIN, amplified("layernorm"), SHORTCUT, GATED, PLE, PLNE]
)
def test_a_saved_decoder_comes_back(tmp_path: Path, design: Design) -> None:
    decoder = Decoder(design)
    decoder.initialise(1)
    decoder.get_buffer("layers.0.mlp.gate.e_score_correction_bias").fill_(0.25)
    save_decoder(decoder, design, tmp_path)
    loaded, same_design = load_decoder(tmp_path)
    assert same_design == design
    assert not loaded.training
    tokens = torch.randint(0, 64, (1, 8))
    assert torch.equal(loaded(tokens), decoder.eval()(tokens))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    decoder = Decoder(DESIGN)
    decoder.initialise(0)
    save_decoder(decoder, DESIGN, tmp_path)
    return tmp_path


def test_a_missing_tensor_is_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    tensors = load_file(weights)
    del tensors["embed_tokens.tables.weight"]
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"model\.safetensors: embed_tokens\.tables\.weight: is m"):
        load_decoder(saved)


def test_an_unexpected_tensor_is_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    save_file(load_file(weights) | {"extra.weight": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match=r"model\.safetensors: extra\.weight: has no place"):
        load_decoder(saved)


def test_a_wrong_shape_is_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    save_file(load_file(weights) | {"norm.weight": torch.zeros(31)}, weights)
    with pytest.raises(InputError, match=r"norm\.weight: has shape \[31\].*needs \[32\]"):
        load_decoder(saved)


def test_broken_and_missing_files_are_named(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match=r"model\.safetensors: header length: .*not safetensors"):
        load_decoder(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has neither model\.safetensors nor"):
        load_decoder(saved)
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        load_decoder(saved / "nowhere")
