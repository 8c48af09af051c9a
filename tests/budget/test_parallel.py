"""What a rank holds: copies and parts, by hand and added up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngscale import presets
from ngscale.budget.parallel import Ranks, Stage, split, stage_layers
from ngscale.design import Design, read_design
from ngscale.errors import UsageError
from ngscale.params import parameter_groups
from tests.architectures.test_transformers import CASES, config_of, written
from tests.budget.configs import DEEPSEEK_V3, LITE, LLAMA_8B, changed
from tests.model.small import PLE, PLNE


def held(stage: Stage) -> dict[str, int]:
    return {group: count for group, count in stage.parameters.items() if count}


def whole(design: Design) -> dict[str, int]:
    groups = parameter_groups(design)
    del groups["mtp"]  # not placed
    return {group: count for group, count in groups.items() if count}


@pytest.mark.parametrize("model_type", CASES)
def test_one_rank_holds_everything(model_type: str, tmp_path: Path) -> None:
    design = read_design(written(config_of(model_type, CASES[model_type][-1]), tmp_path))
    (stage,) = split(design, Ranks())
    assert held(stage) == whole(design)


@pytest.mark.parametrize("name", presets.names())
def test_one_rank_of_a_preset_holds_everything(name: str) -> None:
    design = read_design(presets.resolve(name))
    (stage,) = split(design, Ranks())
    assert held(stage) == whole(design)


@pytest.mark.parametrize("design", [PLE, PLNE])
def test_one_rank_holds_tables_in_place_of_up_projections(design: Design) -> None:
    (stage,) = split(design, Ranks())
    assert held(stage) == whole(design)


def test_two_ranks_halve_what_stands_for_up_projections() -> None:
    """SHORTCUT's dense blocks: D = 32, F = 24; PLE's tables and PLNE's words have V = 64 rows."""
    (stage,) = split(PLE, Ranks(tp=2))
    groups = parameter_groups(PLE)
    assert stage.parameters["per_layer_embedding"] == groups["per_layer_embedding"] // 2 == 64 * 24
    assert stage.parameters["dense_ffn"] == groups["dense_ffn"] // 2
    (stage,) = split(PLNE, Ranks(tp=2))
    groups = parameter_groups(PLNE)
    for group in ("per_layer_embedding", "ngram_tables", "dense_ffn"):
        assert stage.parameters[group] == groups[group] // 2, group
    assert stage.parameters["ngram_projections"] == groups["ngram_projections"]


@given(st.integers(1, 14))
def test_pipeline_stages_add_up(pp: int) -> None:
    stages = split(LITE, Ranks(pp=pp))
    total = {group: sum(stage.parameters[group] for stage in stages) for group in whole(LITE)}
    assert total == whole(LITE)
    assert [stage.table_rows for stage in stages] == [122_683_536] + [0] * (pp - 1)


def test_tensor_parallel_splits_lite_where_engines_do() -> None:
    """Of one attention (HASHING 9.1) q_b, kv_b and o are split, q_a, kv_a and norms copied."""
    (stage,) = split(LITE, Ranks(tp=8))
    copied = 1536 * 3072 + 1536 + 576 * 3072 + 512
    parts = 6144 * 1536 + 8192 * 512 + 3072 * 4096
    groups = parameter_groups(LITE)
    assert stage.parameters["attention"] == 28 * (copied + parts // 8)
    for group in ("dense_ffn", "experts", "word_embedding", "lm_head", "ngram_tables"):
        assert stage.parameters[group] == groups[group] // 8, group
    for group in ("router", "router_bias", "norms", "ngram_projections"):
        assert stage.parameters[group] == groups[group], group
    assert stage.table_rows == 122_683_536 // 8


def test_key_value_heads_are_copied_where_there_are_too_few() -> None:
    """Llama-3-8B on 16 ranks: 2 query heads and one of 8 key-value heads, which two ranks have."""
    (stage,) = split(LLAMA_8B, Ranks(tp=16))
    assert stage.parameters["attention"] == 32 * 4096 * 128 * (2 + 2 + 1 + 1)
    ((copies, layer),) = stage.layers
    assert copies * layer.attentions[0].cached_values * 2 == 131_072 // 8


def test_expert_parallel_keeps_experts_whole() -> None:
    """DeepSeek-V3 on 32 ranks: 8 of 256 experts each; routers of all (arXiv:2412.19437)."""
    design = DEEPSEEK_V3
    (stage,) = split(design, Ranks(tp=4, dp=8, ep=32))
    groups = parameter_groups(design)
    assert stage.parameters["experts"] == groups["experts"] // 32
    assert stage.parameters["router"] == groups["router"]
    assert stage.parameters["router_bias"] == groups["router_bias"]
    assert stage.parameters["shared_experts"] == groups["shared_experts"] // 4


def test_uneven_experts_are_rounded_up() -> None:
    (stage,) = split(LITE, Ranks(dp=12, ep=12))
    assert stage.parameters["experts"] == 14 * 22 * 9_437_184  # 256 / 12 = 21.3


def test_tables_are_copied_under_data_parallel_and_split_over_their_own_shards() -> None:
    (copied,) = split(LITE, Ranks(dp=4))
    assert copied.parameters["ngram_tables"] == 31_406_985_216
    (shared,) = split(LITE, Ranks(dp=4, table_shards=4))
    assert shared.parameters["ngram_tables"] == 31_406_985_216 // 4


@given(st.integers(1, 200), st.integers(1, 40))
def test_stages_take_all_layers_and_differ_by_one(num_layers: int, num_stages: int) -> None:
    counts = stage_layers(num_layers, num_stages)
    assert sum(counts) == num_layers
    assert max(counts) - min(counts) <= 1
    assert counts[-1] == min(counts)  # the head is there


def test_the_rest_goes_to_the_middle() -> None:
    """vLLM's get_pp_indices: from the last but one stage forward."""
    assert stage_layers(61, 8) == [7, 7, 8, 8, 8, 8, 8, 7]
    assert stage_layers(14, 4) == [3, 4, 4, 3]


def test_a_tied_head_is_copied_to_the_last_stage(tmp_path: Path) -> None:
    design = changed("llama-3.1-8b", tmp_path, tie_word_embeddings=True)
    first, last = split(design, Ranks(pp=2))
    assert first.parameters["word_embedding"] == last.parameters["lm_head"] == 128_256 * 4096
    (alone,) = split(design, Ranks())
    assert alone.parameters["lm_head"] == 0


@pytest.mark.parametrize(
    ("ranks", "problem"),
    [
        (Ranks(tp=3), "--tp 3: does not divide num_attention_heads 32"),
        (Ranks(tp=64), "--tp 64: does not divide num_attention_heads 32"),
        (Ranks(pp=15), "--pp 15: exceeds the 14 layers"),
        (Ranks(tp=2, ep=3), "--ep 3: does not divide --tp 2 x --dp 1"),
    ],
)
def test_a_split_that_does_not_come_out_even_is_refused(ranks: Ranks, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        split(LITE, ranks)
