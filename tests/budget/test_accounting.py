"""The record of a budget: exact numbers, plain JSON, a function of contents alone."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given

from ngscale import presets
from ngscale.budget import Ranks, Workload, build
from ngscale.design import Design, read_design
from ngscale.params import Dtype, moe_of, ngram_padding
from ngscale.records import RunRecord, dump_json
from tests.designs import decoder_designs
from tests.model.small import PLNE


def record_of(name: str, dtype: Dtype = "bf16") -> RunRecord:
    design = read_design(presets.resolve(name))
    return build(design, target=name, config_sha256="0" * 64, dtype=dtype)


def results_of(name: str, dtype: Dtype = "bf16") -> Any:
    return record_of(name, dtype).results


def test_the_answer_for_lite_is_one_sentence_with_the_published_figures() -> None:
    """arXiv:2601.21204: 68.5B (truncated), 31.4B (46%), 2.9B-4.5B active."""
    assert record_of("longcat-flash-lite").answer == (
        "longcat-flash-lite has 68.562B parameters, 31.407B (45.81%) of them in 12 n-gram tables; "
        "2.930B-4.515B are active; the parameter-equivalent MoE has 494 experts per layer instead "
        "of 256."
    )


def test_the_answer_without_tables_says_so() -> None:
    assert record_of("longcat-flash-chat").answer == (
        "longcat-flash-chat has 560.665B parameters, none in n-gram tables; "
        "18.694B-31.377B are active."
    )


def test_parameters_of_lite_are_the_published_integers() -> None:
    """Exact integers from the tensor shapes of the released checkpoint; 14 * 9,437,184 parameters
    for every real expert of the top-12.
    """
    parameters = results_of("longcat-flash-lite")["parameters"]
    assert parameters["total"] == 68_562_465_024
    assert sum(parameters["groups"].values()) == 68_562_465_024
    assert "mtp" not in parameters["groups"]
    assert parameters["mtp"] == 108_217_344
    assert parameters["ngram_tables"] == 31_406_985_216
    assert parameters["ngram_padding"] == 0
    assert parameters["ngram_share"] == 0.458078413677  # 31,406,985,216 / 68,562,465,024, 12 digits
    assert round(parameters["ngram_share_with_word_table"], 3) == 0.464
    assert parameters["active"]["without_projections"] == {
        "min": 2_920_518_912,
        "max": 4_505_965_824,
        "at": {str(real): 2_920_518_912 + real * 132_120_576 for real in range(13)},
        "groups": [
            "attention",
            "dense_ffn",
            "experts",
            "router",
            "router_bias",
            "layer_norms",
            "lm_head",
        ],
    }


def test_equivalent_moe_of_lite_names_both_counts() -> None:
    moe = results_of("longcat-flash-lite")["parameter_equivalent_moe"]
    assert (moe["experts_per_layer"], moe["experts_per_layer_with_tables"]) == (494, 256)
    assert round(moe["exact_added_experts_per_layer"], 2) == 237.71
    assert round(moe["added_experts_per_layer_without_router"], 1) == 237.8
    assert moe["total"] == 68_562_465_024 + moe["total_difference"]
    assert sum(moe["groups"].values()) == moe["total"]


def test_tables_of_lite_are_rows_by_width() -> None:
    """Rows 10,223,617 to 10,223,639 of 256 columns; 122,683,536 rows in all."""
    results = results_of("longcat-flash-lite")
    assert results["tables"][0] == {
        "index": 0,
        "order": 2,
        "rows": 10_223_617,
        "width": 256,
        "parameters": 2_617_245_952,
    }
    assert [table["order"] for table in results["tables"]] == [2] * 4 + [3] * 4 + [4] * 4
    assert sum(table["parameters"] for table in results["tables"]) == 31_406_985_216
    assert results["table_rows"] == {
        "min": 10_223_617,
        "max": 10_223_639,
        "total": 122_683_536,
        "int32_share": 0.0571289733318,  # 122,683,536 / (2**31 - 1), to 12 digits
    }


@pytest.mark.parametrize(
    ("dtype", "weight_bytes", "bytes_per_token"),
    [
        ("fp32", 4 * 68_562_465_024, 12 * 256 * 4),
        ("bf16", 2 * (68_562_465_024 + 16_520_448), 12 * 256 * 2),
        (
            "fp8",
            2 * (68_562_465_024 + 16_520_448) - (915_726_336 + 1_585_446_912 + 33_822_867_456),
            12 * 256 * 2,
        ),
    ],
)
def test_bytes_follow_the_dtype(dtype: Dtype, weight_bytes: int, bytes_per_token: int) -> None:
    """The router and its bias (16,520,448) stay fp32; fp8 exports keep the tables bf16."""
    results = results_of("longcat-flash-lite", dtype)
    assert results["memory"]["weight_bytes"] == weight_bytes
    assert results["memory"]["ngram_table_bytes"] == 122_683_536 * bytes_per_token // 12
    assert results["traffic"]["rows_per_token"] == 12
    assert results["traffic"]["bytes_per_token"] == bytes_per_token


def test_a_model_without_tables_reads_none() -> None:
    results = results_of("longcat-flash-chat")
    assert results["tables"] == []
    assert results["parameter_equivalent_moe"] is None
    assert results["table_rows"] is None
    assert results["warnings"] == []
    assert set(results["traffic"].values()) == {0}
    assert results["parameters"]["ngram_share"] == 0


def test_groups_that_miss_parameters_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ngscale.budget.accounting.total_parameters", lambda design: 1)
    with pytest.raises(AssertionError, match="groups do not sum to the total"):
        record_of("longcat-flash-lite")


@given(decoder_designs())
def test_every_record_is_strict_json_that_adds_up(design: Design) -> None:
    record = build(design, target="any", config_sha256="0" * 64, dtype="bf16")
    document = json.loads(dump_json(record.document()))
    assert document == record.document()
    assert sum(document["parameters"]["groups"].values()) == document["parameters"]["total"]
    assert sum(document["memory"]["group_bytes"].values()) == document["memory"]["weight_bytes"]
    tables = sum(table["parameters"] for table in document["tables"])
    assert tables == document["parameters"]["ngram_tables"]


@given(decoder_designs())
def test_one_active_number_is_told_once(design: Design) -> None:
    """Without zero experts fewest and most active parameters are the same."""
    assume(not moe_of(design.model).num_zero_experts)
    bare = Design(model=design.model)
    answer = build(bare, target="any", config_sha256="0" * 64, dtype="bf16").answer
    assert "-" not in answer.split("; ")[1]


@pytest.mark.parametrize("name", presets.names())
def test_every_line_of_the_arithmetic_comes_out(name: str) -> None:
    """Formula and numbers have as many factors, and the numbers give the value."""
    lines = results_of(name)["arithmetic"]
    assert {line["unit"] for line in lines} == {"B", "FLOP"}
    for line in lines:
        terms = [term.split(" x ") for term in line["numbers"].split(" + ")]
        assert sum(math.prod(map(int, term)) for term in terms) == line["value"], line["quantity"]
        assert line["formula"].count(" x ") == line["numbers"].count(" x "), line["quantity"]


def test_the_arithmetic_is_that_of_the_record() -> None:
    results = results_of("longcat-flash-lite")
    lines = {line["quantity"]: line["value"] for line in results["arithmetic"]}
    memory, flops = results["memory"], results["flops"]
    for group, num_bytes in memory["group_bytes"].items():
        assert lines.get(f"weights: {group}", 0) == num_bytes
    assert lines["KV cache of one token"] == memory["kv_cache"]["bytes_per_token"]
    assert lines["training: tables, AdamW"] == memory["training"]["table_bytes"]["adamw"]
    products = [value for name, value in lines.items() if name.startswith("FLOPs: ")]
    products.remove(flops["attention_of_context"])
    products.remove(flops["attention_of_next_token"])
    assert sum(products) == flops["matmuls_per_token"]["max"]


def test_memory_by_dtype_holds_the_one_asked_for() -> None:
    for dtype in ("fp8", "bf16", "fp32"):
        memory = results_of("longcat-flash-lite", dtype)["memory"]
        assert memory["weight_bytes_by_dtype"][dtype] == memory["weight_bytes"]


def test_the_fullest_rank_is_told() -> None:
    design = read_design(presets.resolve("longcat-flash-lite"))
    workload = Workload(context_tokens=1000, num_sequences=5, ranks=Ranks(tp=2, pp=2, dp=2))
    record = build(design, target="x", config_sha256="0" * 64, dtype="bf16", workload=workload)
    parallel: Any = record.results["parallel"]
    assert parallel["num_ranks"] == 8
    first, last = parallel["stages"]
    assert first["cache_bytes"] == last["cache_bytes"] == 3 * 1000 * 14 * 576 * 2  # of 5, 3 and 2
    assert (first["table_rows"], last["table_rows"]) == (122_683_536 // 2, 0)
    assert parallel["largest_rank_bytes"] == first["weight_bytes"] + first["cache_bytes"]
    assert record.inputs["ranks"] == {"tp": 2, "ep": 1, "pp": 2, "dp": 2, "table_shards": None}


def test_a_prefetch_window_tells_the_hidden_batch() -> None:
    design = read_design(presets.resolve("longcat-flash-lite"))
    workload = Workload(window_us=56.0)
    record = build(design, target="x", config_sha256="0" * 64, dtype="bf16", workload=workload)
    tiers: Any = record.results["placement"]["tiers"]
    hidden = {tier["name"]: tier["max_batch_tokens"] for tier in tiers}
    assert hidden["host-thread"] == 46  # (56 - 0.1) / (12 x 0.1)
    assert hidden["nvme-pm9a3"] == 0  # one read alone takes longer


def test_rows_weigh_what_their_type_and_scales_do() -> None:
    """DeepSeek-V4.1 (HASHING 9.2): 384,006,168 and 384,016,682 rows of 256 columns, FP8; with a
    scale of one byte for every 32 columns a row has 264 bytes.
    """
    design = read_design(presets.resolve("deepseek-v4.1-flash"))
    record = build(design, target="v4.1", config_sha256="0" * 64, dtype="bf16")
    first, second = record.results["ngram_sets"]
    assert (first["layers"], second["layers"]) == ([1], [14])
    assert first["parameters"] + second["parameters"] == 196_613_849_600
    assert first["row_bytes"] == {"fp32": 1024, "bf16": 512, "fp8": 256, "fp8_e8m0": 264}
    assert first["bytes"]["fp8_e8m0"] == 384_006_168 * 264
    assert second["bytes"]["fp8"] == 384_016_682 * 256
    assert first["padding_parameters"] == 0


def test_sets_of_tables_in_dense_blocks_are_as_wide_as_those() -> None:
    """PLNE with F = 24: 4 tables of 6 columns, projections of 24 x 24, as the decoder's tensors."""
    record = build(PLNE, target="plne", config_sha256="0" * 64, dtype="bf16")
    found = record.results["ngram_sets"]
    assert [one["width"] for one in found] == [6, 6]
    assert [one["projection_parameters"] for one in found] == [24 * 24] * 2
    assert [one["parameters"] for one in found] == [656 * 6, 256 * 6]
    groups = record.results["parameters"]["groups"]
    assert groups["ngram_projections"] == 2 * 24 * 24
    padded = replace(PLNE, ngrams=tuple(replace(s, row_multiple=100) for s in PLNE.ngrams))
    assert ngram_padding(padded) == (800 - 656 + 400 - 256) * 6  # each to the next hundred
