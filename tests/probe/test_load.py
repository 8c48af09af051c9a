import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.errors import InputError, NoResultError, UnsafeInputError, UsageError
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.probe.load import Checkpoint, load_checkpoint
from ngscale.probe.norms import StreamNorms, measure
from ngscale.spec import Amplification, longcat_spec
from tests.designs import policy_of
from tests.probe.models import VOCAB_SIZE, edit_config, save_random

IDS = 3 + (np.arange(60).reshape(2, 30) * 7) % (VOCAB_SIZE - 3)  # 0 is padding, its row zero


def load(directory: Path) -> Checkpoint:
    return load_checkpoint(directory, device="cpu")


def probe(checkpoint: Checkpoint) -> StreamNorms:
    return measure(
        checkpoint.structure, checkpoint.run, IDS, device=checkpoint.device, done=lambda: None
    )


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return save_random("llama", tmp_path)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_decoders_of_transformers_close_exactly(family: str, tmp_path: Path) -> None:
    checkpoint = load(save_random(family.removesuffix("_text"), tmp_path))
    norms = probe(checkpoint)
    assert norms.closure.max_relative_error == 0.0
    assert len(norms.sublayers) == 6
    assert (checkpoint.model_type, checkpoint.hidden_size) == (family, 32)
    assert (checkpoint.vocab_size, checkpoint.max_tokens) == (VOCAB_SIZE, 128)


def test_norms_of_a_transformers_decoder_are_those_of_its_hidden_states(llama: Path) -> None:
    """``output_hidden_states`` gives the stream into every layer, by another way than hooks."""
    checkpoint = load(llama)
    norms = probe(checkpoint)
    states = checkpoint.structure.backbone(
        input_ids=torch.from_numpy(IDS), output_hidden_states=True
    ).hidden_states
    for layer in range(3):
        expected = states[layer].detach().double().norm(dim=-1).numpy()
        assert norms.sublayers[2 * layer].stream == pytest.approx(expected, rel=1e-5)


def test_writes_that_no_adapter_knows_fail_closure(tmp_path: Path) -> None:
    """Granite scales every write by ``residual_multiplier``."""
    checkpoint = load(save_random("granite", tmp_path))
    with pytest.raises(NoResultError, match="closure fails at what L0_mlp_out reads"):
        probe(checkpoint)


def test_a_post_norm_reads_as_the_write_what_it_puts_out(tmp_path: Path) -> None:
    """Gemma 2 norms what a sub-layer puts out, then adds it: |write| = sqrt(D) at unit gain."""
    norms = probe(load(save_random("gemma2", tmp_path)))
    for sublayer in norms.sublayers:
        assert sublayer.write == pytest.approx(np.full((2, 30), 32**0.5), rel=1e-4)


def test_an_unknown_structure_names_what_is_missing(tmp_path: Path) -> None:
    directory = save_random("mamba", tmp_path)
    with pytest.raises(InputError, match="MambaForCausalLM has no `embed_tokens` or "):
        load(directory)


@pytest.mark.parametrize("amplification", ["none", "sqrt_d", "layernorm"])
def test_our_own_checkpoint_closes_and_tells_its_amplification(
    amplification: Amplification, tmp_path: Path
) -> None:
    model = decoder_model(
        DecoderConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            moe_intermediate_size=16,
            num_experts=4,
            num_experts_per_tok=2,
        )
    )
    ngram = longcat_spec(
        vocab_size=VOCAB_SIZE,
        max_order=3,
        num_subtables=2,
        table_rows=(101, 103, 107, 109),
        policy=policy_of(2),
        amplification=amplification,
    )
    design = Design(model=model, ngrams=(ngram,))
    decoder = Decoder(design)
    decoder.initialise(seed=3)
    embedding = decoder.embed_tokens
    assert isinstance(embedding, NgramEmbedding)
    torch.nn.init.normal_(embedding.tables.weight)
    save_decoder(decoder, design, tmp_path)
    checkpoint = load(tmp_path)
    assert (checkpoint.is_own, checkpoint.amplification) == (True, amplification)
    norms = probe(checkpoint)
    assert norms.closure.max_relative_error == 0.0
    embed = decoder.embed_tokens(torch.from_numpy(IDS)).detach().double().norm(dim=-1).numpy()
    assert norms.sublayers[0].stream == pytest.approx(embed, rel=1e-5)  # n-gram part included
    for share in norms.shares:
        parts = share.parts
        assert set(parts) == {"word", "ngram", "order2", "order3", *(f"table{i}" for i in range(4))}
        assert parts["word"] + parts["ngram"] == pytest.approx(share.share, rel=1e-4, abs=1e-6)
        assert sum(parts[f"table{i}"] for i in (2, 3)) == pytest.approx(parts["order3"], abs=1e-6)
    if amplification != "layernorm":  # there the parts depend on the whole
        with torch.no_grad():
            embedding.tables.weight.zero_()
            words = embedding(torch.from_numpy(IDS)).norm(dim=-1).numpy()
        assert norms.embed_parts["word"] == pytest.approx(words, rel=1e-4)


def test_the_record_can_name_config_and_weights_by_hash(llama: Path) -> None:
    import hashlib

    files = load(llama).files
    assert set(files) == {"config.json", "model.safetensors"}
    data = (llama / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == hashlib.sha256(data).hexdigest()


def test_transformers_settings_come_back_after_loading(llama: Path) -> None:
    before = transformers_logging.get_verbosity()
    load(llama)
    assert transformers_logging.get_verbosity() == before


def shard(directory: Path, name: str = "part-1.safetensors") -> None:
    """Turn model.safetensors into part-1.safetensors, with an index that names ``name``."""
    weights = directory / "model.safetensors"
    tensors = list(load_file(weights))
    weights.rename(directory / "part-1.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_read_and_hashed(llama: Path) -> None:
    shard(llama)
    assert set(load(llama).files) == {"config.json", "part-1.safetensors"}


def test_a_missing_shard_is_named(llama: Path) -> None:
    shard(llama, "part-2.safetensors")
    with pytest.raises(InputError, match=r"index\.json: part-2\.safetensors: no such file"):
        load(llama)


def test_a_shard_outside_the_directory_is_refused(llama: Path) -> None:
    shard(llama, "../part-1.safetensors")
    with pytest.raises(UnsafeInputError, match="lies outside the directory"):
        load(llama)


def test_remote_code_is_refused(llama: Path) -> None:
    edit_config(llama, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    (llama / "modeling_x.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsafeInputError, match=r"config\.json: auto_map: .* probe runs none"):
        load(llama)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights_are_refused_unread(llama: Path, name: str) -> None:
    (llama / "model.safetensors").rename(llama / name)
    with pytest.raises(UnsafeInputError, match=f"only pickled weights .{name}."):
        load(llama)


def test_pickled_tensors_are_read_where_asked(llama: Path) -> None:
    expected = probe(load(llama))
    tensors = load_file(llama / "model.safetensors")
    (llama / "model.safetensors").unlink()
    torch.save(tensors, llama / "pytorch_model.bin")
    with pytest.raises(UnsafeInputError, match="opt in with --allow-pickle"):
        load(llama)
    checkpoint = load_checkpoint(llama, device="cpu", allow_pickle=True)
    assert set(checkpoint.files) == {"config.json", "pytorch_model.bin"}
    assert np.array_equal(probe(checkpoint).sublayers[5].write, expected.sublayers[5].write)


def test_a_pickled_number_that_is_not_finite_is_malformed(llama: Path) -> None:
    weights = llama / "model.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    tensors["model.norm.weight"][5] = float("nan")
    torch.save(tensors, llama / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin: model\.norm\.weight: \[5\]: is nan"):
        load_checkpoint(llama, device="cpu", allow_pickle=True)


def test_a_pickle_that_would_run_code_runs_none(llama: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(llama / "ran"),)

    (llama / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Runs()}, llama / "pytorch_model.bin")
    with pytest.raises(UnsafeInputError, match="holds more than tensors"):
        load_checkpoint(llama, device="cpu", allow_pickle=True)
    assert not (llama / "ran").exists()


def test_no_weights_at_all_is_an_input_error(llama: Path) -> None:
    (llama / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"neither model\.safetensors nor"):
        load(llama)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_truncated_weights_are_one_line(llama: Path, keep: int) -> None:
    weights = llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated") as caught:
        load(llama)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": None}, "model_type: is missing"),
        ({"model_type": "no_such_model"}, "transformers cannot load it: ValueError: .*no_such"),
        ({"model_type": "t5"}, "transformers cannot load it: ValueError: Unrecognized"),
        ({"model_type": "bert"}, "bert.* is not in the weights"),
        ({"num_hidden_layers": 4}, r"model\.layers\.3\..* is not in the weights"),
        ({"hidden_size": 64}, "transformers cannot load it: RuntimeError"),
        ({"hidden_size": "wide"}, "transformers cannot load it: .*hidden_size"),
        ({"hidden_size": -4}, "transformers cannot load it: "),
        ({"num_attention_heads": 0}, "transformers cannot load it: ZeroDivisionError"),
        ({"hidden_act": "no_such"}, "transformers cannot load it: KeyError: 'no_such'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config: .*convert first"),
    ],
)
def test_a_wrong_config_is_an_input_error(
    llama: Path, values: dict[str, object], message: str
) -> None:
    edit_config(llama, **values)
    with pytest.raises(InputError, match=message):
        load(llama)


def test_tensors_without_a_place_are_said(llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(llama, num_hidden_layers=2)
    load(llama)
    said = capfd.readouterr()
    assert said.err.startswith("9 tensors of ")
    assert "model.layers.2." in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_weights_that_are_not_finite_are_malformed(llama: Path) -> None:
    path = llama / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"layers\.1\.mlp\.down_proj\.weight: \[0, 0\]: is nan"):
        load(llama)


@pytest.mark.parametrize("device", ["zorg", "cuda:99", "meta:x"])
def test_a_device_that_is_not_here_is_a_usage_error(llama: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device}: cannot be used here"):
        load_checkpoint(llama, device=device)
