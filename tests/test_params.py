"""Parameter counts against tensor shapes written out here, published figures and real modules."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given

from ngscale import presets
from ngscale.architectures import with_experts, with_keys
from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design, read_design
from ngscale.errors import SpecError
from ngscale.params import (
    GROUPS,
    active_parameters,
    bytes_per_parameter,
    expert_only_equivalent,
    moe_of,
    ngram_groups,
    parameter_equivalent_experts,
    parameter_equivalent_moe,
    parameter_groups,
    total_parameters,
)
from ngscale.row_counts import longcat_rows
from ngscale.spec import longcat_spec
from tests.designs import decoder_designs, ple_spec, policy_of

LITE = read_design(presets.resolve("longcat-flash-lite"))
LITE_SPARSE = read_design(presets.resolve("longcat-flash-lite-sparse"))
CHAT = read_design(presets.resolve("longcat-flash-chat"))

ATTENTION_TENSORS = [
    ("q_a_proj", (1536, 3072)),
    ("q_a_layernorm", (1536,)),
    ("q_b_proj", (6144, 1536)),
    ("kv_a_proj_with_mqa", (576, 3072)),
    ("kv_a_layernorm", (512,)),
    ("kv_b_proj", (8192, 512)),
    ("o_proj", (3072, 4096)),
]
DENSE_FFN_TENSORS = [
    ("gate_proj", (6144, 3072)),
    ("up_proj", (6144, 3072)),
    ("down_proj", (3072, 6144)),
]
LITE_TENSORS: list[tuple[str, str, tuple[int, ...], int]] = [
    ("word_embedding", "model.embed_tokens", (131072, 3072), 1),
    ("lm_head", "lm_head", (131072, 3072), 1),
    *(
        ("ngram_tables", f"model.ngram_embeddings.embedders.{i}", (10223617 + 2 * i, 256), 1)
        for i in range(12)
    ),
    ("ngram_projections", "model.ngram_embeddings.post_projs.*", (3072, 256), 12),
    *(("attention", f"self_attn.*.{name}", shape, 28) for name, shape in ATTENTION_TENSORS),
    *(("dense_ffn", f"mlps.*.{name}", shape, 28) for name, shape in DENSE_FFN_TENSORS),
    ("experts", "mlp.experts.*.gate_proj", (1024, 3072), 14 * 256),
    ("experts", "mlp.experts.*.up_proj", (1024, 3072), 14 * 256),
    ("experts", "mlp.experts.*.down_proj", (3072, 1024), 14 * 256),
    ("router", "mlp.router.classifier", (384, 3072), 14),
    ("router_bias", "mlp.router.e_score_correction_bias", (384,), 14),
    ("norms", "input_layernorm.*", (3072,), 28),
    ("norms", "post_attention_layernorm.*", (3072,), 28),
    ("norms", "model.norm", (3072,), 1),
    ("mtp", "model.mtp.norm", (3072,), 1),
    ("mtp", "model.mtp.layers.0.eh_proj", (3072, 6144), 1),
    ("mtp", "model.mtp.layers.0.enorm.m", (3072,), 1),
    ("mtp", "model.mtp.layers.0.hnorm.m", (3072,), 1),
    ("mtp", "model.mtp.layers.0.input_layernorm", (3072,), 1),
    ("mtp", "model.mtp.layers.0.post_attention_layernorm", (3072,), 1),
    *(("mtp", f"model.mtp.layers.0.self_attn.{name}", s, 1) for name, s in ATTENTION_TENSORS),
    *(("mtp", f"model.mtp.layers.0.mlp.{name}", s, 1) for name, s in DENSE_FFN_TENSORS),
]
"""(group, name, shape, how many): the safetensors index of meituan-longcat/LongCat-Flash-Lite,
without the copy of the word embedding that it stores as model.mtp.embed_tokens."""


def count_tensors(tensors: list[tuple[str, str, tuple[int, ...], int]]) -> dict[str, int]:
    counts = dict.fromkeys(GROUPS, 0)
    for group, _, shape, copies in tensors:
        counts[group] += math.prod(shape) * copies
    return counts


def test_every_group_of_lite_is_the_sum_of_its_checkpoint_tensors() -> None:
    assert parameter_groups(LITE) == count_tensors(LITE_TENSORS)


def test_lite_stores_the_number_of_tensors_its_index_lists() -> None:
    """11,143 text tensors and 17 of the MTP, one of which is the copied word embedding."""
    text = sum(copies for group, _, _, copies in LITE_TENSORS if group != "mtp")
    mtp = sum(copies for group, _, _, copies in LITE_TENSORS if group == "mtp")
    assert (text, mtp + 1) == (11_143, 17)


def test_lite_has_the_published_totals() -> None:
    """arXiv:2601.21204, abstract and sec. 4: 68.5B, of them 31.4B (46%) n-gram; exact integers
    from the checkpoint's tensor shapes. The total holds the router's bias (5,376) and no MTP.
    """
    groups = parameter_groups(LITE)
    assert groups["ngram_tables"] == 31_406_985_216
    assert groups["ngram_projections"] == 9_437_184
    assert groups["experts"] == 33_822_867_456
    assert groups["router_bias"] == 5_376
    assert groups["mtp"] == 108_217_344
    assert total_parameters(LITE) == 68_562_465_024
    assert round(groups["ngram_tables"] / total_parameters(LITE), 4) == 0.4581


def test_lite_moduli_are_the_released_ones() -> None:
    """``int(78 * 131072 + 2i + 1)``, i = 0..11, of modeling_longcat_ngram.py."""
    assert LITE.ngram is not None
    assert LITE.ngram.table_rows == tuple(range(10_223_617, 10_223_640, 2))


def test_lite_activates_the_published_range_by_either_convention() -> None:
    """arXiv:2601.21204, sec. 4: 2.9B-4.5B active, 12 to 0 of 12 slots being zero experts. Both
    conventions round to it; their groups are part of the number.
    """
    active = active_parameters(LITE)
    assert (active["without_projections"].minimum, active["without_projections"].maximum) == (
        2_920_518_912,
        4_505_965_824,
    )
    assert (active["with_projections"].minimum, active["with_projections"].maximum) == (
        2_929_953_792,
        4_515_400_704,
    )


@pytest.mark.parametrize("convention", ["without_projections", "with_projections"])
def test_an_active_count_is_the_sum_of_the_groups_it_names(convention: str) -> None:
    count = active_parameters(LITE)[convention]
    groups = parameter_groups(LITE)
    groups["layer_norms"] = groups["norms"] - 3072
    slot = 14 * 3 * 3072 * 1024
    always = sum(groups[group] for group in count.groups if group != "experts")
    assert (count.minimum, count.maximum) == (always, always + 12 * slot)


def test_chat_has_the_published_totals() -> None:
    """arXiv:2509.01322, abstract: 560B, 18.6B-31.3B active, all truncated to the last digit."""
    assert total_parameters(CHAT) == 560_664_980_480
    active = active_parameters(CHAT)
    for convention in ("without_projections", "with_projections"):
        count = active[convention]
        assert [math.floor(count.minimum / 1e8), math.floor(count.maximum / 1e8)] == [186, 313]


def test_lite_sparse_adds_its_indexers_to_attention() -> None:
    """Indexer of each layer's first attention: wq_b [16*128, 1536], wk [128, 3072],
    weights_proj [16, 3072], k_norm [128]; the rest is Flash-Lite. Published (arXiv:2608.01662):
    69B.
    """
    indexer = 2048 * 1536 + 128 * 3072 + 16 * 3072 + 128
    lite, sparse = parameter_groups(LITE), parameter_groups(LITE_SPARSE)
    assert sparse == lite | {"attention": lite["attention"] + 14 * indexer}
    assert round(total_parameters(LITE_SPARSE) / 1e9) == 69


@pytest.mark.parametrize(
    ("ratio", "vocab", "hidden", "order", "first_modulus", "width", "tables"),
    [
        (100.567, 163_840, 8192, 5, 16_476_898, 512, 134_978_871_296),
        (28.8, 163_840, 3072, 4, 4_718_593, 256, 14_495_551_488),
        (59.604, 163_840, 4096, 5, 9_765_520, 256, None),
    ],
)
def test_published_layouts_give_their_table_parameters(
    ratio: float,
    vocab: int,
    hidden: int,
    order: int,
    first_modulus: int,
    width: int,
    tables: int | None,
) -> None:
    """LongCat-2.0 (135B published), then the layouts in TokenSpeed's tests; K = 4 throughout.
    Only the tables are those of the named model here, the backbone is not.
    """
    num_tables = (order - 1) * 4
    spec = longcat_spec(
        vocab_size=vocab,
        max_order=order,
        num_subtables=4,
        table_rows=longcat_rows(ratio, vocab, num_tables),
        policy=policy_of(2),
    )
    model = with_keys(LITE.model, {"vocab_size": vocab, "hidden_size": hidden})
    design = Design(model=model, ngrams=(spec,))
    assert spec.table_rows[0] == first_modulus
    assert design.table_width(spec) == width
    if tables is not None:
        assert parameter_groups(design)["ngram_tables"] == tables


def test_longcat_2_has_the_published_experts() -> None:
    """EVIDENCE 2.1: 38 layers of 768 experts, 3 * 2048 * 8192 each, are 1.469T; with the tables
    1.60T (HASHING 9.3). Its attention is not published, so the rest is Flash-Lite's here.
    """
    sizes = {"hidden_size": 8192, "num_layers": 38, "n_routed_experts": 768}
    model = with_keys(LITE.model, sizes | {"expert_ffn_hidden_size": 2048})
    experts = parameter_groups(Design(model=model))["experts"]
    assert experts == 38 * 768 * 3 * 2048 * 8192
    assert f"{experts / 1e12:.3f}" == "1.469"
    assert f"{(experts + 134_978_871_296) / 1e12:.2f}" == "1.60"


@pytest.mark.parametrize(("order", "num_subtables"), [(2, 1), (3, 2), (5, 4), (7, 4)])
def test_orders_and_subtables_leave_table_parameters_unchanged(
    order: int, num_subtables: int
) -> None:
    """arXiv:2601.21204, Eq. 3: D / ((N-1)K) columns make the count independent of N and K, up to
    the +2i of the sizes: below 1e-5 relative.
    """
    num_tables = (order - 1) * num_subtables
    spec = longcat_spec(
        vocab_size=131_072,
        max_order=order,
        num_subtables=num_subtables,
        table_rows=longcat_rows(78, 131_072, num_tables),
        policy=policy_of(2),
    )
    tables = parameter_groups(replace(LITE, ngrams=(spec,)))["ngram_tables"]
    assert tables == pytest.approx(31_406_985_216, rel=1e-5)


def test_equivalent_experts_of_lite_by_both_counts() -> None:
    """The 237.8 experts per layer told for Lite's 31.4B (tables and projections) count three
    matrices per expert: 31,416,422,400 / (14 * 9,437,184). With router row and bias: 237.71.
    """
    spent = 31_406_985_216 + 9_437_184
    assert expert_only_equivalent(LITE) == Fraction(spent, 14 * 9_437_184)
    assert round(float(expert_only_equivalent(LITE)), 1) == 237.8
    assert parameter_equivalent_experts(LITE) == Fraction(spent, 14 * (9_437_184 + 3072 + 1))
    assert round(float(parameter_equivalent_experts(LITE)), 2) == 237.71


def test_equivalent_moe_of_lite_has_494_experts() -> None:
    equivalent = parameter_equivalent_moe(LITE)
    assert equivalent == Design(model=with_experts(LITE.model, 494))
    assert total_parameters(equivalent) - total_parameters(LITE) == 38_513_924


def test_a_model_without_tables_is_its_own_equivalent() -> None:
    assert parameter_equivalent_moe(CHAT) == CHAT
    assert parameter_equivalent_experts(CHAT) == 0


def test_fp8_narrows_only_what_published_exports_narrow() -> None:
    assert bytes_per_parameter("fp8") == {
        "word_embedding": 2,
        "position_embedding": 2,
        "per_layer_embedding": 2,
        "ngram_tables": 2,
        "ngram_projections": 2,
        "attention": 1,
        "dense_ffn": 1,
        "experts": 1,
        "shared_experts": 1,
        "router": 4,
        "router_bias": 4,
        "residual_mixing": 2,
        "norms": 2,
        "lm_head": 2,
        "mtp": 2,
    }
    assert set(bytes_per_parameter("fp32").values()) == {4}


DECODER = decoder_model(
    DecoderConfig(
        vocab_size=512,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        moe_intermediate_size=20,
        num_experts=5,
        num_experts_per_tok=2,
    )
)
DECODER_SPEC = longcat_spec(
    vocab_size=512,
    max_order=3,
    num_subtables=2,
    table_rows=(1001, 1003, 1005, 1007),
    policy=policy_of(0),
    amplification="layernorm",
)


def test_decoder_groups_are_the_sums_of_its_tensors() -> None:
    tensors: list[tuple[str, str, tuple[int, ...], int]] = [
        ("word_embedding", "embed_tokens", (512, 48), 1),
        ("lm_head", "lm_head", (512, 48), 1),
        *(("ngram_tables", "tables", (rows, 12), 1) for rows in (1001, 1003, 1005, 1007)),
        ("ngram_projections", "projections", (48, 12), 4),
        ("attention", "q_proj", (60, 48), 3),
        ("attention", "k_proj", (20, 48), 3),
        ("attention", "v_proj", (20, 48), 3),
        ("attention", "o_proj", (48, 60), 3),
        ("router", "router", (5, 48), 3),
        ("experts", "gate, up, down", (3, 20, 48), 3 * 5),
        ("norms", "input and post-attention", (48,), 3 * 2),
        ("norms", "final", (48,), 1),
        ("norms", "amplification", (48,), 1),
    ]
    design = Design(model=DECODER, ngrams=(DECODER_SPEC,))
    assert parameter_groups(design) == count_tensors(tensors)


def test_a_decoder_activates_one_number_of_parameters() -> None:
    design = Design(model=DECODER, ngrams=(DECODER_SPEC,))
    groups = parameter_groups(design)
    for count in active_parameters(design).values():
        assert count.minimum == count.maximum
    always = ("ngram_projections", "attention", "router", "norms", "lm_head")
    expected = sum(groups[name] for name in always) + groups["experts"] * 2 // 5
    assert active_parameters(design)["with_projections"].maximum == expected


def test_only_the_layernorm_amplification_has_parameters() -> None:
    totals = {
        kind: total_parameters(
            Design(model=DECODER, ngrams=(replace(DECODER_SPEC, amplification=kind),))
        )
        for kind in ("none", "sqrt_d", "layernorm")
    }
    assert totals["sqrt_d"] == totals["none"]
    assert totals["layernorm"] == totals["none"] + 48


SHORTCUT = decoder_model(
    DecoderConfig(
        vocab_size=513,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
        moe_intermediate_size=20,
        num_experts=5,
        num_experts_per_tok=2,
        block="shortcut",
        intermediate_size=24,
    )
)
PLNE = replace(
    longcat_spec(
        vocab_size=513, max_order=3, num_subtables=1, table_rows=(97, 100), policy=policy_of(None)
    ),
    placement="plne",
    layers=(1,),
)


def test_tables_in_a_dense_block_stand_for_its_up_projection() -> None:
    """48 x 24 of it. PLE: a word table of width 24. PLNE: that, and two tables of half the width
    with a projection each.
    """
    plain = parameter_groups(Design(model=SHORTCUT))
    words = {"per_layer_embedding": 513 * 24, "dense_ffn": plain["dense_ffn"] - 48 * 24}
    ple = Design(model=SHORTCUT, ngrams=(ple_spec(513, 1),))
    assert parameter_groups(ple) == plain | words
    tables = {"ngram_tables": 197 * 12, "ngram_projections": 2 * 24 * 12}
    assert parameter_groups(Design(model=SHORTCUT, ngrams=(PLNE,))) == plain | words | tables


def test_a_rank_holds_its_part_of_rows_words_and_up_projection() -> None:
    design = Design(model=SHORTCUT, ngrams=(PLNE,))
    held = ngram_groups(design, PLNE, None, tp=2, shards=3)
    assert held == {
        "ngram_tables": 66 * 12,
        "ngram_projections": 2 * 24 * 12,
        "per_layer_embedding": 257 * 24,
        "dense_ffn": -48 * 24 // 2,
    }


def test_a_model_without_experts_is_active_whole_and_has_no_equivalent() -> None:
    """Llama 3.1 8B: 8,030,261,248 published, two matrices of 128,256 x 4,096 among them."""
    dense = read_design(presets.resolve("llama-3.1-8b"))
    active = active_parameters(dense)
    assert active["with_embedding_and_head"].at == {0: 8_030_261_248}
    assert active["without_embedding_or_head"].at == {0: 8_030_261_248 - 2 * 128_256 * 4096}
    with pytest.raises(SpecError, match="has no experts whose number could vary"):
        parameter_equivalent_experts(dense)


def test_active_counts_are_by_every_number_of_real_experts() -> None:
    slot = 14 * 3 * 3072 * 1024
    at = active_parameters(LITE)["with_projections"].at
    assert sorted(at) == list(range(13))
    assert {at[real + 1] - at[real] for real in range(12)} == {slot}


def test_fewer_zero_experts_than_slots_keep_some_real_ones_active() -> None:
    design = replace(LITE, model=with_keys(LITE.model, {"zero_expert_num": 5}))
    count = active_parameters(design)["with_projections"]
    assert count.maximum - count.minimum == 5 * 14 * moe_of(design.model).expert.parameters


@given(decoder_designs())
def test_groups_sum_to_the_total_and_come_in_one_order(design: Design) -> None:
    groups = parameter_groups(design)
    assert tuple(groups) == GROUPS
    assert sum(groups.values()) - groups["mtp"] == total_parameters(design)
    assert all(type(count) is int and count >= 0 for count in groups.values())


@given(decoder_designs())
def test_no_other_number_of_experts_comes_nearer(design: Design) -> None:
    model = parameter_equivalent_moe(design).model

    def miss(num_experts: int) -> int:
        other = with_experts(model, num_experts)
        return abs(total_parameters(Design(model=other)) - total_parameters(design))

    experts = moe_of(model)
    chosen = experts.num_experts
    neighbours = [chosen + 1] + [chosen - 1] * (chosen > experts.top_k)
    assert all(miss(chosen) <= miss(other) for other in neighbours)
