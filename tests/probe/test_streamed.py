"""A streamed pass: the numbers of a resident one to the last bit, the weights read once."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ngscale.design import Design
from ngscale.errors import InputError, NgscaleError, NoResultError, UnsafeInputError, UsageError
from ngscale.model.checkpoint import load_decoder, save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.longcat import Family
from ngscale.model.stored import StoredTensor
from ngscale.probe.load import Checkpoint, load_checkpoint
from ngscale.probe.norms import StreamNorms, measure
from ngscale.probe.table_files import gather_rows
from tests.model.small import DESIGN, GATED, MODEL, PLE, PLNE, SHORTCUT, SPEC
from tests.model.test_longcat import random_decoder, tiny
from tests.probe.models import VOCAB_SIZE, edit_config, save_random

WINDOWS = 3 + (np.arange(90).reshape(3, 30) * 7) % (VOCAB_SIZE - 3)  # 0 is padding, its row zero


def load(directory: Path, *, stream: bool) -> Checkpoint:
    return load_checkpoint(directory, device="cpu", stream=stream)


def probe(checkpoint: Checkpoint, windows: np.ndarray = WINDOWS) -> StreamNorms:
    return measure(
        checkpoint.structure,
        checkpoint.run,
        windows,
        device=checkpoint.device,
        done=lambda: None,
        together=checkpoint.streamed,
    )


def numbers(norms: StreamNorms) -> Iterator[np.ndarray]:
    """All that is measured, but for closure."""
    for sublayer in norms.sublayers:
        yield from (sublayer.write, sublayer.stream, sublayer.layer_input, sublayer.cosine)
        if sublayer.ratio_by_stream is not None:
            yield sublayer.ratio_by_stream
    for share in norms.shares:
        yield from (share.share, share.cosine, *share.parts.values())
    first = norms.first_layer
    yield from (first.embed_sq, first.cross, first.write_sq)
    yield from (norms.embed, *norms.embed_parts.values())


def assert_same(directory: Path, windows: np.ndarray = WINDOWS) -> StreamNorms:
    whole, streamed = (probe(load(directory, stream=s), windows) for s in (False, True))
    for one, other in zip(numbers(whole), numbers(streamed), strict=True):
        assert np.array_equal(one, other)
    assert whole.closure == streamed.closure
    return streamed


@pytest.mark.parametrize(
    "family",
    [
        *("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "olmo", "olmoe", "phi3"),
        *("deepseek_v3", "gemma2", "gemma3", "glm4", "gpt2", "gpt_neox", "gpt_oss"),
        *("longcat_flash", "qwen4_exp"),
    ],
)
def test_transformers_families_are_bit_equal(family: str, tmp_path: Path) -> None:
    """Among them tied embeddings, positions outside the layers, experts fused on loading."""
    assert_same(save_random(family, tmp_path))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_become_the_same_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = save_random("mixtral", tmp_path) / "model.safetensors"
    tensors = {name: t.to(dtype) for name, t in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    assert_same(tmp_path)


def save_own(design: Design, directory: Path, *, family: Family = "ngram_embeddings") -> Path:
    """With tables that are not zero."""
    specs = design.ngrams
    ids = torch.arange(64) % 16 if any(s.compressed_vocab for s in specs) else None
    decoder = Decoder(design, compressed_ids=ids)
    decoder.initialise(seed=3)
    for name, tensor in decoder.named_parameters():
        if "tables" in name:
            torch.nn.init.normal_(tensor)
    save_decoder(decoder, design, directory, family=family)
    return directory


OWN = WINDOWS % 61


@pytest.mark.parametrize(
    "design",
    [
        *(DESIGN, GATED, PLE, PLNE, SHORTCUT, Design(model=MODEL)),
        *(
            Design(model=MODEL, ngrams=(replace(SPEC, **changes),))
            for changes in (
                {"compressed_vocab": 16},
                {"fusion": "concat", "word_scale": "none"},
                {"fusion": "added", "row_width": 32},
                {"row_multiple": 16, "amplification": "layernorm"},
            )
        ),
    ],
)
def test_our_own_checkpoints_are_bit_equal(design: Design, tmp_path: Path) -> None:
    norms = assert_same(save_own(design, tmp_path), OWN)
    assert norms.embed_parts.keys() >= ({"table3"} if design is DESIGN else set())


def test_shards_of_our_own_are_read(tmp_path: Path) -> None:
    save_own(DESIGN, tmp_path)
    index(tmp_path, "part-1.safetensors")
    assert_same(tmp_path, OWN)


def save_longcat(directory: Path, family: Family = "ngram_embeddings") -> Path:
    design = tiny(directory)
    save_decoder(random_decoder(design), design, directory, family=family)
    return directory


@pytest.mark.parametrize("family", ["ngram_embeddings", "oe_embed"])
def test_longcats_checkpoints_are_bit_equal(family: Family, tmp_path: Path) -> None:
    norms = assert_same(save_longcat(tmp_path, family), WINDOWS % 40)
    assert norms.closure.max_relative_error == 0.0
    assert [s.name for s in norms.sublayers[:5]] == [
        f"L1_{part}" for part in ("attn0", "mlp0", "attn1", "mlp1", "moe")
    ]
    assert "table11" in norms.embed_parts


def test_longcat_needs_no_code_of_its_directory(tmp_path: Path) -> None:
    save_longcat(tmp_path)
    edit_config(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    (tmp_path / "modeling_x.py").write_text("raise SystemExit('ran')")
    assert load(tmp_path, stream=True).structure.num_streams == 1


def test_a_second_name_of_the_words_has_to_agree(tmp_path: Path) -> None:
    weights = save_longcat(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    alias = "model.ngram_embeddings.word_embeddings.weight"
    save_file(tensors | {alias: tensors["model.embed_tokens.weight"].clone()}, weights)
    assert_same(tmp_path, WINDOWS % 40)
    save_file(tensors | {alias: tensors["model.embed_tokens.weight"] + 1}, weights)
    assert_same_failure(tmp_path, "differs from model.embed_tokens.weight")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that were read whole, in order."""
    names: list[str] = []
    real = StoredTensor.to

    def to(
        self: StoredTensor,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        names.append(self.header.name)
        return real(self, device, dtype)

    monkeypatch.setattr(StoredTensor, "to", to)
    return names


def test_windows_share_one_reading_of_each_layer(tmp_path: Path, reads: list[str]) -> None:
    checkpoint = load(save_random("llama", tmp_path), stream=True)
    assert sorted(reads) == ["model.embed_tokens.weight", "model.norm.weight"]
    probe(checkpoint)
    stored = set(load_file(tmp_path / "model.safetensors"))
    assert sorted(reads) == sorted(stored - {"lm_head.weight"})


def test_one_layer_is_in_memory_at_a_time(tmp_path: Path) -> None:
    checkpoint = load(save_random("llama", tmp_path), stream=True)
    layers = [parts.layer for parts in checkpoint.structure.layers]
    seen = []

    def resident(layer: object, args: object) -> None:
        seen.append([not any(p.is_meta for p in each.parameters()) for each in layers])

    for layer in layers:
        layer.register_forward_pre_hook(resident)
    probe(checkpoint)
    assert seen == [[layer == each for each in range(3)] for layer in range(3) for _ in range(3)]


@pytest.mark.parametrize("kind", ["own", "longcat"])
def test_tables_and_lm_head_are_never_read_whole(
    kind: str, tmp_path: Path, reads: list[str]
) -> None:
    directory = save_longcat(tmp_path) if kind == "longcat" else save_own(GATED, tmp_path)
    probe(load(directory, stream=True), WINDOWS % 40)
    stored = set(load_file(directory / "model.safetensors"))
    left = ("tables.weight", "embedders.", "lm_head")
    assert set(reads) == {name for name in stored if not any(part in name for part in left)}


def test_only_the_rows_that_tokens_touch_are_read(tmp_path: Path) -> None:
    """Rows that no token of the window reads may even be infinite."""
    save_own(DESIGN, tmp_path)
    embedding = load_decoder(tmp_path)[0].embed_tokens
    ids = (embedding.row_ids(torch.from_numpy(OWN)) + embedding.table_starts).unique()  # type: ignore[operator]
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    untouched = torch.ones(SPEC.physical_rows, dtype=torch.bool)
    untouched[ids] = False
    assert untouched.any()
    tensors["embed_tokens.tables.weight"][untouched] = torch.inf
    save_file(tensors, weights)
    probe(load(tmp_path, stream=True), OWN)
    tensors["embed_tokens.tables.weight"][ids[0]] = torch.inf
    save_file(tensors, weights)
    with pytest.raises(
        InputError, match=r"embed_tokens\.tables\.weight: \[\d+, \d\]: is inf, must"
    ):
        probe(load(tmp_path, stream=True), OWN)


def test_a_failing_window_ends_them_all(tmp_path: Path) -> None:
    checkpoint = load(save_random("granite", tmp_path), stream=True)
    with pytest.raises(NoResultError, match="closure fails at what L0_mlp_out reads"):
        probe(checkpoint)
    assert "window" not in [thread.name for thread in threading.enumerate()]


def test_a_weight_with_no_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a future architecture may do: build a layer's tensor from none of the checkpoint's."""
    from ngscale.probe import load_transformers

    real = load_transformers.reader

    def reader(*args: object) -> object:
        read = real(*args)  # type: ignore[arg-type]
        return lambda names: read([name for name in names if "layers.1.mlp.up" not in name])

    monkeypatch.setattr(load_transformers, "reader", reader)
    checkpoint = load(save_random("llama", tmp_path), stream=True)
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.up_proj\.weight: could not be"):
        probe(checkpoint)


def failure(directory: Path, *, stream: bool) -> NgscaleError:
    with pytest.raises(NgscaleError) as caught:
        probe(load(directory, stream=stream), 3 + WINDOWS % 37)
    return caught.value


def assert_same_failure(directory: Path, message: str) -> None:
    whole, streamed = (failure(directory, stream=s) for s in (False, True))
    assert message in str(whole)
    assert "\n" not in str(whole)
    assert (type(whole), str(whole)) == (type(streamed), str(streamed))


def edit(directory: Path, **changed: torch.Tensor | None) -> None:
    """Change tensors, or leave them out; ``__`` in a name stands for a dot."""
    weights = directory / "model.safetensors"
    tensors = load_file(weights)
    for name, tensor in changed.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, weights, metadata={"format": "pt"})


def cut(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def index(directory: Path, name: str) -> None:
    weights = directory / "model.safetensors"
    tensors = list(load_file(weights))
    weights.rename(directory / "part-1.safetensors")
    text = json.dumps({"weight_map": dict.fromkeys(tensors, name)})
    (directory / "model.safetensors.index.json").write_text(text)


NAN = torch.full((32,), torch.nan)
BAD = [
    (cut, InputError, "the file is truncated"),
    (lambda d: index(d, "part-2.safetensors"), InputError, "the shard is missing"),
    (lambda d: index(d, "../part-1.safetensors"), UnsafeInputError, "lies outside the directory"),
    (lambda d: (d / "config.json").unlink(), InputError, "config.json: cannot be read"),
    (lambda d: (d / "model.safetensors").unlink(), InputError, "neither model.safetensors nor"),
    (lambda d: edit(d, model__norm__weight=NAN), InputError, "norm.weight: [0]: is nan"),
    (
        lambda d: edit(d, model__layers__2__input_layernorm__weight=NAN),
        InputError,
        "model.safetensors: model.layers.2.input_layernorm.weight: [0]: is nan, must be a finite",
    ),
    (lambda d: edit(d, model__norm__weight=None), InputError, "model.norm.weight: is not in the"),
    (
        lambda d: edit(d, model__norm__weight=torch.ones(31)),
        InputError,
        "transformers cannot load it",
    ),
    (lambda d: edit_config(d, model_type=None), InputError, "model_type: is missing"),
    (lambda d: edit_config(d, model_type="mamba2"), InputError, ""),
    (lambda d: edit_config(d, hidden_size=64), InputError, "transformers cannot load it"),
    (lambda d: edit_config(d, hidden_size="wide"), InputError, "hidden_size"),
    (lambda d: edit_config(d, num_attention_heads=0), InputError, "ZeroDivisionError"),
    (lambda d: edit_config(d, num_hidden_layers=4), InputError, "is not in the weights"),
    (lambda d: edit_config(d, auto_map={}), UnsafeInputError, "probe runs none"),
    (lambda d: edit_config(d, quantization_config={}), InputError, "convert first"),
]


@pytest.mark.parametrize(("spoil", "kind", "message"), BAD)
def test_bad_input_is_told_alike(
    spoil: object, kind: type[NgscaleError], message: str, tmp_path: Path
) -> None:
    save_random("llama", tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    assert isinstance(failure(tmp_path, stream=True), kind)
    assert_same_failure(tmp_path, message)


OWN_BAD = [
    (cut, "the file is truncated"),
    (lambda d: edit(d, norm__weight=None), "norm.weight: is missing"),
    (lambda d: edit(d, embed_tokens__tables__weight=None), "tables.weight: is missing"),
    (lambda d: edit(d, more=NAN), "more: has no place in the design"),
    (lambda d: edit(d, norm__weight=torch.ones(31)), "norm.weight: has shape [31]"),
    (lambda d: edit(d, norm__weight=NAN), "norm.weight: [0]: is nan, must be a finite"),
    (lambda d: edit_config(d, hidden_size=64), "has shape"),
    (lambda d: edit_config(d, hidden_size=-1), "hidden_size"),
    (lambda d: index(d, "part-2.safetensors"), "the shard is missing"),
]


@pytest.mark.parametrize(("spoil", "message"), OWN_BAD)
def test_bad_input_of_our_own_is_told_alike(spoil: object, message: str, tmp_path: Path) -> None:
    save_own(DESIGN, tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    assert_same_failure(tmp_path, message)


LONGCAT_BAD = [
    ({"model.norm.weight": None}, "model.norm.weight: is missing"),
    ({"model.layers.1.mlp.experts.4.up_proj.weight": None}, "experts.4.up_proj.weight: is missing"),
    ({"model.ngram_embeddings.embedders.11.weight": None}, "embedders.11.weight: is missing"),
    ({"model.ngram_embeddings.post_projs.0.weight": NAN}, "post_projs.0.weight: has shape [32]"),
    ({"model.more": NAN}, "model.more: has no place"),
    ({"model.norm.weight": NAN[:24]}, "norm.weight: [0]: is nan, must be a finite"),
]


@pytest.mark.parametrize(("changed", "message"), LONGCAT_BAD)
def test_bad_input_of_longcat_is_told_alike(
    changed: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    save_longcat(tmp_path)
    edit(tmp_path, **changed)
    assert_same_failure(tmp_path, message)


def test_pickled_weights_are_not_streamed(tmp_path: Path) -> None:
    weights = save_random("llama", tmp_path) / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pytorch_model.bin")
    weights.unlink()
    assert_same_failure(tmp_path, "has only pickled weights")
    with pytest.raises(UsageError, match="--stream: reads safetensors by range"):
        load_checkpoint(tmp_path, device="cpu", stream=True, allow_pickle=True)


def test_neighbouring_rows_are_one_range(tmp_path: Path) -> None:
    from ngscale.probe.table_files import Rows
    from ngscale.safetensors_header import read_headers

    rows = torch.arange(40_000 * 8, dtype=torch.float32).view(40_000, 8)
    save_file({"t": rows}, tmp_path / "model.safetensors")
    part = Rows(tensor=read_headers(tmp_path)["t"], first=5, number=39_000)
    ids = np.random.default_rng(0).integers(0, 39_000, 500)
    assert np.array_equal(gather_rows(tmp_path, (part,), ids), rows[5:][ids].numpy())
