"""GGUF files, made in a moment by the package that also reads them."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ngscale.errors import InputError, MissingExtraError, UnsafeInputError, UsageError
from ngscale.probe import load_gguf
from ngscale.probe.load import load_checkpoint
from ngscale.probe.norms import measure
from tests.probe.models import VOCAB_SIZE, random_model, save_random

gguf = pytest.importorskip("gguf", reason="needs the hf extra's gguf")

IDS = 3 + (np.arange(30).reshape(1, 30) * 7) % (VOCAB_SIZE - 3)


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of q and k (its ``convert_hf_to_gguf.py``)."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def save_gguf(path: Path) -> Path:
    """The random Llama of ``save_random``, unquantised, under llama.cpp's names."""
    model = random_model("llama")
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCAB_SIZE)
    names: Any = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if ".q_proj." in name:
            weight = permuted(weight, config.num_attention_heads)
        if ".k_proj." in name:
            weight = permuted(weight, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_number_that_is_not_finite_is_malformed(tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "tiny.gguf")
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)  # the last tensor's last number
        file.write(np.float32(np.inf).tobytes())
    with pytest.raises(InputError, match=r"tiny\.gguf: .*weight: \[.*\]: is inf, must be a finite"):
        load_checkpoint(path, device="cpu")


@pytest.mark.parametrize("named", [True, False], ids=["file", "directory"])
def test_a_gguf_gives_the_numbers_of_its_model(named: bool, tmp_path: Path) -> None:
    (tmp_path / "gguf").mkdir()
    path = save_gguf(tmp_path / "gguf" / "tiny.gguf")
    save_random("llama", tmp_path)
    found = []
    for place in (tmp_path, path if named else path.parent):
        checkpoint = load_checkpoint(place, device="cpu")
        norms = measure(
            checkpoint.structure,
            checkpoint.run,
            IDS,
            device=torch.device("cpu"),
            done=lambda: None,
        )
        found.append((checkpoint, norms))
    (_, whole), (checkpoint, norms) = found
    assert (checkpoint.name, checkpoint.model_type) == ("tiny", "llama")
    assert (checkpoint.gguf, set(checkpoint.files)) == (path, {"tiny.gguf"})
    assert norms.closure.max_relative_error == 0.0
    for one, other in zip(whole.sublayers, norms.sublayers, strict=True):
        assert other.write == pytest.approx(one.write, rel=1e-6)


def test_of_several_files_one_has_to_be_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"holds 2 GGUF files .a\.gguf, b\.gguf.; name one"):
        load_checkpoint(tmp_path, device="cpu")


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.gguf").write_bytes(b"GGUF")
    (tmp_path / "in" / "a.gguf").symlink_to(tmp_path / "out.gguf")
    with pytest.raises(UnsafeInputError, match="leads outside the directory"):
        load_checkpoint(tmp_path / "in", device="cpu")


def test_a_gguf_is_not_streamed(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UsageError, match=r"--stream: .* a\.gguf is read whole"):
        load_checkpoint(path, device="cpu", stream=True)


@pytest.mark.parametrize("keep", [0, 4, 100, 1000, -1])
def test_truncated_files_are_one_line(keep: int, tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "a.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a\.gguf: ") as caught:
        load_checkpoint(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(InputError, match=r"a\.gguf: is no GGUF file: starts with"):
        load_checkpoint(path, device="cpu")


@pytest.mark.parametrize("package", ["transformers", "gguf", "accelerate"])
def test_the_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(load_gguf, "find_spec", lambda n: None if n == package else real(n))
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(MissingExtraError, match=rf"{package} .* pip install 'ngscale\[hf\]'"):
        load_checkpoint(path, device="cpu")
