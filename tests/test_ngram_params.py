"""The n-gram side of every published scheme: tables, padding, projections, bytes of a row."""

from dataclasses import replace

import pytest

from ngscale import presets
from ngscale.errors import SpecError
from ngscale.model_spec import NgramGate
from ngscale.ngram_config import read_specs
from ngscale.ngram_params import ngram_parameters, row_bytes, table_width
from ngscale.spec import NgramSpec


def specs(name: str) -> tuple[NgramSpec, ...]:
    return read_specs(presets.resolve(name))


@pytest.mark.parametrize(
    ("name", "hidden_size", "tables", "projections"),
    [
        ("longcat-flash-lite", 3072, 31_406_985_216, 9_437_184),  # HASHING 9.3
        ("longcat-next", 3072, 31_406_985_216, 9_437_184),
        ("longcat-2.0", 8192, 134_978_871_296, 8192 * 8192),  # HASHING 9.2: 134.98B + 67.1M
        ("longcat-ratio-28.8", 3072, 14_495_551_488, 3072 * 3072),  # EVIDENCE 2.1
        ("longcat-tiny-random", 8, 4 * (524_289 + 524_291), 8 * 8),  # ratio 4, V 131,072, d = 4
    ],
)
def test_longcat_projects_the_rows_of_each_table(
    name: str, hidden_size: int, tables: int, projections: int
) -> None:
    """arXiv:2601.21204 Eq. 3: widths sum to the hidden size, so projections are its square."""
    (spec,) = specs(name)
    counts = ngram_parameters(spec, hidden_size=hidden_size)
    assert (counts.tables, counts.padding, counts.projections) == (tables, 0, projections)


def test_deepseek_v41_has_196b_in_two_layers() -> None:
    """EVIDENCE 2.3: (384,006,168 + 384,016,682) * 256; one fused projection of 24 rows to a key
    for each of 4 streams and a value, weights of both norms, no convolution (HASHING 5.1).
    """
    gate = NgramGate(hidden_size=5120, joint_width=24 * 256, num_streams=4)
    counts = [
        ngram_parameters(spec, hidden_size=5120, gate=gate) for spec in specs("deepseek-v4.1-flash")
    ]
    assert sum(each.stored for each in counts) == 196_613_849_600
    assert [each.padding for each in counts] == [0, 0]
    assert counts[0].projections == 24 * 256 * 5120 * 5 + 2 * 4 * 5120


def test_qwen38_pads_its_rows_to_a_multiple_of_128() -> None:
    """EVIDENCE 2.4: 320,001,446 rows padded to 320,001,536, by 160. Hidden size 2560, 4 streams,
    kernel 4: key and value projections, three norms and a depthwise convolution (HASHING 5.2).
    """
    (spec,) = specs("qwen3.8-flash-next")
    gate = NgramGate(hidden_size=2560, joint_width=2560, num_streams=4, conv_kernel=4)
    counts = ngram_parameters(spec, hidden_size=2560, gate=gate)
    assert counts.tables == 320_001_446 * 160
    assert counts.padding == 90 * 160
    assert counts.stored == 51_200_245_760
    streams = 4 * 2560
    assert counts.projections == 2560 * streams + 2560 * 2560 + 3 * streams + 4 * streams


def test_the_engram_demo_has_biases_and_a_convolution() -> None:
    """engram_demo_v1.py: hidden 1024, 4 streams, 2 orders of 512 columns, kernel 4: value_proj,
    4 key_projs, 2 * 4 norms, and the convolution's norms and weights.
    """
    gate = NgramGate(hidden_size=1024, joint_width=1024, num_streams=4, bias=True, conv_kernel=4)
    first, second = (
        ngram_parameters(spec, hidden_size=1024, gate=gate) for spec in specs("engram-demo")
    )
    linear = 5 * (1024 * 1024 + 1024)
    assert first.projections == second.projections == linear + (2 + 1 + 4) * 4 * 1024
    assert first.stored == 64 * sum(specs("engram-demo")[0].table_rows)


@pytest.mark.parametrize(("slots", "published"), [(2_262_400, "5.79"), (7_239_680, "18.53")])
def test_engrams_published_models_have_these_tables(slots: int, published: str) -> None:
    """EVIDENCE 2.2, table 5 of arXiv:2601.07372: slots of each of orders 2 and 3, 1,280 columns of
    all 16 heads, 80 of each, in 2 layers. [C] 2,262,400 * 1280 * 2 = 5.79B; the slots are 17.5 and
    56 times 129,280. The primes that the heads really have are a little larger and not published.
    """
    (spec,) = specs("engram-demo")[:1]
    # a head's prime is near the slots of its order; 8 heads of 80 columns for each order
    counts = ngram_parameters(
        replace(spec, table_rows=(slots,) * 16, row_width=80, fusion="added"), hidden_size=2560
    )
    assert f"{2 * counts.stored / 1e9:.2f}" == published


@pytest.mark.parametrize(("hidden_size", "published"), [(1024, "13.1"), (2048, "26.2")])
def test_over_encoding_has_m_rows_of_the_hidden_size(hidden_size: int, published: str) -> None:
    """EVIDENCE 6.5: OE-12.8M, 12.8M * d = 13.1B at d = 1024 and 26.2B at 2048 (the paper says
    26.3B). mojo_opset projects the word embedding and all rows together (HASHING 4).
    """
    (spec,) = specs("over-encoding-12.8m")
    counts = ngram_parameters(spec, hidden_size=hidden_size)
    assert f"{counts.stored / 1e9:.1f}" == published
    assert counts.projections == 2 * hidden_size * hidden_size


def test_modded_nanogpt_adds_its_rows_as_they_are() -> None:
    """HASHING 6: 50304 * 15 / 2 = 377,280 rows, the last reserved, by 768."""
    (spec,) = specs("modded-nanogpt")
    counts = ngram_parameters(spec)
    assert (counts.tables, counts.padding, counts.projections) == (377_280 * 768, 0, 0)


def test_blt_sums_rows_onto_the_byte_embedding() -> None:
    """HASHING 6: six tables of 500,002 rows; 1,024 columns of the local encoder."""
    (spec,) = specs("blt")
    counts = ngram_parameters(spec, hidden_size=1024)
    assert (counts.stored, counts.projections) == (6 * 500_002 * 1024, 0)


def test_marins_tables_are_projected_and_summed_and_nanbeiges_joined() -> None:
    (lite,) = specs("longcat-flash-lite")
    for fusion in ("sum", "concat_rows"):
        counts = ngram_parameters(replace(lite, fusion=fusion), hidden_size=3072)
        assert counts.projections == 3072 * 3072


def test_shapes_that_are_not_known_are_refused() -> None:
    (qwen,) = specs("qwen3.8-flash-next")
    (lite,) = specs("longcat-flash-lite")
    with pytest.raises(SpecError, match="gate of the n-gram tables of layers"):
        ngram_parameters(qwen, hidden_size=2560)
    with pytest.raises(SpecError, match="meet a gate of 7"):
        ngram_parameters(qwen, hidden_size=2560, gate=NgramGate(hidden_size=2560, joint_width=7))
    with pytest.raises(SpecError, match="row_width: is not stated"):
        table_width(lite, None)


def test_a_row_of_fp8_carries_its_scales() -> None:
    """HASHING 1: DeepSeek-V4.1 stores FP8 rows of 256 and E8M0 scales; mlx-vlm 0.7.10 loads a
    scale for 32 columns (``_pack_source_weight``): 264 bytes.
    """
    assert [row_bytes(256, dtype) for dtype in ("fp32", "bf16", "fp8")] == [1024, 512, 256]
    assert row_bytes(256, "fp8_e8m0") == 264
    assert row_bytes(100, "fp8_e8m0") == 104
