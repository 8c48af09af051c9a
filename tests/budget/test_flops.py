"""FLOPs of a token: by hand, by 6ND, and counted in transformers' modules."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale import presets
from ngscale.budget.flops import matmuls, num_pairs, pairs
from ngscale.design import Design, read_design
from ngscale.model_spec import GroupedAttention, LatentAttention
from ngscale.params import parameter_groups
from tests.architectures.test_transformers import CASES, config_of, written
from tests.budget.configs import DEEPSEEK_V3, LITE, LLAMA_8B


def per_token(design: Design, *, most: bool = True) -> int:
    return sum(one.value for one in matmuls(design, most=most))


def test_training_a_dense_model_takes_6_flops_a_weight_and_token() -> None:
    """arXiv:2001.08361, sec. 2.1: C = 6ND, N the weights that are multiplied: here all but the word
    embedding and the norms.
    """
    design = LLAMA_8B
    groups = parameter_groups(design)
    multiplied = groups["attention"] + groups["dense_ffn"] + groups["lm_head"]
    assert 3 * per_token(design) == 6 * multiplied
    assert 6 * multiplied == 6 * (8_030_261_248 - 128_256 * 4096 - 65 * 4096)


def test_attention_of_a_dense_model_is_half_of_12_lhqt() -> None:
    """arXiv:2204.02311, appendix B: 12 L H Q T a token forward and backward, of which a causal mask
    needs half and the diagonal.
    """
    design, tokens = LLAMA_8B, 4096
    all_tokens = 3 * pairs(design, tokens, decode=False).value
    assert all_tokens == 12 * 32 * 32 * 128 * tokens * (tokens + 1) // 2


def test_deepseek_v3_multiplies_its_37b_active_parameters() -> None:
    """arXiv:2412.19437: 37B active; all but the word embedding's rows are multiplied."""
    assert per_token(DEEPSEEK_V3) / 2e9 == pytest.approx(36.6, abs=0.15)


def test_lite_multiplies_its_active_parameters_but_norms() -> None:
    """4,515,400,704 active (HASHING 9.3, with projections), less norms outside and in attention."""
    inner_norms = 28 * (1536 + 512)
    assert per_token(LITE) == 2 * (4_515_400_704 - 175_104 - inner_norms)
    assert per_token(LITE, most=False) == 2 * (2_929_953_792 - 175_104 - inner_norms)


def test_decoding_reads_latents() -> None:
    """Every head: a score over 576 columns and a sum over 512."""
    design = DEEPSEEK_V3
    assert pairs(design, 9, decode=True).value == 2 * 61 * 128 * (576 + 512) * 10
    assert pairs(design, 1, decode=False).value == 2 * 61 * 128 * (192 + 128)


@given(st.integers(1, 60), st.none() | st.integers(1, 70), st.integers(1, 8), st.booleans())
def test_pairs_are_those_counted_one_by_one(
    context: int, limit: int | None, rate: int, decode: bool
) -> None:
    tokens = [context + 1] if decode else range(1, context + 1)
    counted = [token // rate for token in tokens]
    expected = sum(keys if limit is None else min(keys, limit) for keys in counted)
    assert num_pairs(context, limit, rate=rate, decode=decode) == expected


def test_a_layer_reads_the_keys_that_another_picked() -> None:
    """DeepSeek-V4.1-Flash: 64 heads of 512 columns, scored and summed; 512 picked keys and the 128
    last tokens in all of 38 layers, the 2 without compression those alone; 8 indexers of 32 heads
    of 128 columns, 3 over every other token.
    """
    design = read_design(presets.resolve("deepseek-v4.1-flash"))
    context = 100_000
    keys = 38 * 512 + 40 * 128
    scored = 3 * ((context + 1) // 2) + 5 * (context + 1)
    expected = 2 * (2 * 64 * 512 * keys + 32 * 128 * scored)
    assert pairs(design, context, decode=True).value == expected


COUNTED = (
    *("llama", "qwen3", "gpt2", "gemma2", "phi3", "glm4", "starcoder2"),
    *("mixtral", "olmoe", "qwen2_moe", "gpt_oss", "deepseek_v3", "longcat_flash"),
)


@pytest.mark.parametrize("model_type", COUNTED)
def test_products_are_those_that_torch_counts(model_type: str, tmp_path: Path) -> None:
    """Eager attention multiplies all T x T pairs, masked ones too."""
    torch = pytest.importorskip("torch", reason="needs the extra [torch]")
    transformers: Any = pytest.importorskip("transformers", reason="needs the extra [hf]")
    from torch.utils.flop_counter import FlopCounterMode

    config = config_of(model_type, CASES[model_type][0])
    design = read_design(written(config, tmp_path))
    if model_type == "longcat_flash":
        config.head_dim = config.qk_rope_head_dim  # what its rotary embedding is made by
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    tokens = 5
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(input_ids=torch.arange(tokens)[None], use_cache=False)
    square = 0
    for copies, block in design.model.attentions:
        assert isinstance(block, GroupedAttention | LatentAttention)
        square += copies * 2 * block.pair_dim
    assert counter.get_total_flops() == tokens * per_token(design) + square * tokens**2
