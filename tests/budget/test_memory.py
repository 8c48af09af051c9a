"""Caches and training state against published figures, transformers' caches and hand counts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from ngscale.budget.arithmetic import Line, line
from ngscale.budget.memory import activations, cache, cache_of, training, weights
from ngscale.design import Design, read_design
from ngscale.model_spec import CompressedAttention, Indexer
from ngscale.params import parameter_groups, total_parameters
from tests.architectures.test_transformers import CASES, config_of, written
from tests.budget.configs import DEEPSEEK_V3, GPT2, LITE, LLAMA_8B, changed, design_of
from tests.designs import decoder_designs


def values(lines: list[Line]) -> list[int]:
    return [one.value for one in lines]


def test_llama_3_8b_keeps_131072_bytes_a_token() -> None:
    """2 x 8 heads x 128 columns x 2 bytes x 32 layers."""
    design = LLAMA_8B
    assert total_parameters(design) == 8_030_261_248
    per_token, beyond, sequence, state = values(cache(design, 8192, "bf16"))
    assert per_token == beyond == 131_072
    assert sequence == 2**30
    assert state == 0


def test_deepseek_v3_keeps_70272_bytes_a_token() -> None:
    """(512 + 64) x 61 layers x 2 bytes."""
    per_token, *_ = values(cache(DEEPSEEK_V3, 1, "bf16"))
    assert per_token == 70_272


def test_lite_keeps_one_latent_for_each_of_its_28_attentions() -> None:
    """HASHING 9.2: kv_lora_rank 512, rotary 64, 14 layers of two."""
    per_token, *_ = values(cache(LITE, 1, "fp8"))
    assert per_token == 576 * 28


def test_a_window_bounds_the_cache(tmp_path: Path) -> None:
    llama_keys = {"attention_bias": None, "mlp_bias": None}
    design = changed(
        "llama-3.1-8b", tmp_path, model_type="mistral", sliding_window=4096, **llama_keys
    )
    per_token, beyond, sequence, _ = values(cache(design, 10_000, "bf16"))
    assert (per_token, beyond, sequence) == (131_072, 0, 4096 * 131_072)


CACHED = ("llama", "qwen3", "gemma3n_text", "gpt2", "gpt_oss", "olmoe", "qwen3_next")
"""Of each shape of cache one; transformers keeps MLA's keys and values expanded, so not those."""


@pytest.mark.parametrize("model_type", CACHED)
def test_caches_are_as_large_as_those_of_transformers(model_type: str, tmp_path: Path) -> None:
    """bf16 of all, in a context shorter than every window."""
    torch = pytest.importorskip("torch", reason="needs the extra [torch]")
    transformers: Any = pytest.importorskip("transformers", reason="needs the extra [hf]")
    config = config_of(model_type, CASES[model_type][0])
    design = read_design(written(config, tmp_path))
    config._experts_implementation = "eager"
    context = 6
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        kept = model(input_ids=torch.arange(context)[None], use_cache=True).past_key_values

    def held(*names: str) -> int:
        kinds = [getattr(layer, name, None) for layer in kept.layers for name in names]
        tensors = [
            t for kind in kinds for t in (kind.values() if isinstance(kind, dict) else [kind])
        ]
        return sum(tensor.numel() for tensor in tensors if tensor is not None)

    _, _, sequence, state = values(cache(design, context, "bf16"))
    assert sequence == 2 * held("keys", "values")
    assert state == 4 * held("conv_states", "recurrent_states")


def test_adamw_in_mixed_precision_takes_16_bytes_a_parameter() -> None:
    """arXiv:1910.02054, sec. 3.1: 2 + 2 + 12."""
    design = LLAMA_8B
    assert training(design, 1)["dense"].value == 16 * 8_030_261_248
    assert training(design, 1)["adamw"].value == 0


def test_optimisers_of_lites_tables() -> None:
    """31,406,985,216 parameters in 122,683,536 rows (HASHING 9.3), 12 rows of 256 a token."""
    lines = training(LITE, 1000)
    tables = 31_406_985_216
    gradients = 1000 * 12 * (256 * 2 + 8)
    assert lines["adamw"].value == 16 * tables
    assert lines["sparse_adam"].value == 14 * tables + gradients
    assert lines["rowwise_adagrad"].value == 2 * tables + 4 * 122_683_536 + gradients
    assert lines["dense"].value == 16 * (68_562_465_024 - tables)


def test_no_more_gradients_than_rows() -> None:
    lines = training(LITE, 10**9)
    assert lines["sparse_adam"].terms[1]["rows read"] == 122_683_536


def test_a_gpt_layer_keeps_34_d_without_its_dropout_masks(tmp_path: Path) -> None:
    """arXiv:2205.05198, Eq. 2 without 5as/h (scores): 34 s b h, of which two masks of s b h; and
    the log-sum of every head.
    """
    design = design_of(GPT2, tmp_path)
    kept, _ = activations(design, 1).values()
    head = 4 * 768 + 4 * 50_257
    assert kept.value == 12 * (32 * 768 + 4 * 12) + head


def test_recomputed_layers_keep_their_inputs(tmp_path: Path) -> None:
    design = design_of(GPT2, tmp_path)
    kept, recomputed = activations(design, 10).values()
    head = 4 * 768 + 4 * 50_257
    assert recomputed.value == 10 * (12 * 2 * 768 + (32 * 768 + 4 * 12) + head)
    assert recomputed.value < kept.value


def test_compressed_attention_keeps_its_window_and_every_nth_key() -> None:
    """One key-value head (DeepSeek-V4's): 8 tokens of the window, of 21 tokens 5 keys for 4 each
    and as many index keys.
    """
    indexer = Indexer(
        num_heads=3, head_dim=32, matmul_parameters=1, other_parameters=0, top_k=4, compress_rate=4
    )
    block = CompressedAttention(
        hidden_size=48,
        num_heads=4,
        head_dim=64,
        q_lora_rank=19,
        o_groups=2,
        o_lora_rank=9,
        local_window=8,
        compress_rate=4,
        indexer=indexer,
    )
    _, _, sequence, state = values(cache_of([(3, block)], 21, "bf16"))
    assert sequence == 2 * 3 * (8 * 64 + 5 * 64 + 5 * 32)
    assert state == 0
    borrowing = replace(block, caches_compressed=False, indexer=replace(indexer, caches_keys=False))
    assert values(cache_of([(3, borrowing)], 21, "bf16"))[2] == 2 * 3 * 8 * 64


@given(decoder_designs())
def test_weights_are_the_parameters_times_their_width(design: Design) -> None:
    groups = parameter_groups(design)
    bytes_of = {
        one.quantity.removeprefix("weights: "): one.value for one in weights(design, "fp32")
    }
    assert bytes_of == {group: 4 * count for group, count in groups.items() if count}


def test_a_line_shows_what_it_computes() -> None:
    shown = line("area", "m2", {"a": 2, "b": 3}, {"c": 0, "d": 5}, {"e": 7})
    assert (shown.formula, shown.numbers, shown.value) == ("a x b + e", "2 x 3 + 7", 13)
    nothing = line("area", "m2", {"c": 0})
    assert (nothing.formula, nothing.numbers, nothing.value) == ("0", "0", 0)
