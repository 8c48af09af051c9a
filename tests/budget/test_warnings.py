"""What arithmetic alone says against a design."""

from dataclasses import replace

import pytest

from ngscale import presets
from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.budget.warnings import distance_to_multiple, warnings
from ngscale.design import Design, read_design
from ngscale.row_counts import longcat_rows
from ngscale.spec import NgramSpec, longcat_spec
from tests.designs import policy_of

LITE = read_design(presets.resolve("longcat-flash-lite"))
SMALL = Design(
    model=decoder_model(
        DecoderConfig(
            vocab_size=10_000,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            moe_intermediate_size=512,
            num_experts=32,
            num_experts_per_tok=2,
        )
    ),
    ngrams=(
        longcat_spec(
            vocab_size=10_000,
            max_order=3,
            num_subtables=2,
            table_rows=(14_321, 14_323, 14_325, 14_327),
            policy=policy_of(0),
        ),
    ),
)


def test_lites_integer_ratio_is_told() -> None:
    """The released ratio is 78: sizes 78 * 131072 + 1, 3, .., 23, which Principle 3 of
    arXiv:2601.21204 says to keep away from.
    """
    (sentence,) = warnings(LITE)
    assert sentence.startswith(
        "12 of 12 table sizes are within 23 rows of 78 times the hash base 131072;"
    )


@pytest.mark.parametrize("ratio", [100.567, 59.604])
def test_the_later_ratios_are_not_near_multiples(ratio: float) -> None:
    """LongCat-2.0's and the 4096-wide layout's."""
    assert LITE.ngram is not None
    spec = replace(LITE.ngram, table_rows=longcat_rows(ratio, 131_072, 12))
    assert not any("times the hash base" in sentence for sentence in warnings_of(spec))


def warnings_of(spec: NgramSpec) -> list[str]:
    return warnings(replace(LITE, ngrams=(spec,)))


def test_only_the_near_sizes_are_counted() -> None:
    assert LITE.ngram is not None
    rows = (3 * 131_072 - 5, 2 * 131_072 + 7, *([200_000] * 10))
    (sentence,) = warnings_of(replace(LITE.ngram, table_rows=rows))
    assert sentence.startswith("2 of 12 table sizes are within 7 rows of 2, 3 times")


@pytest.mark.parametrize(
    ("rows", "distance"), [(1, 99), (99, 1), (100, 0), (149, 49), (151, 49), (199, 1), (7801, 1)]
)
def test_distance_is_to_the_nearest_positive_multiple(rows: int, distance: int) -> None:
    assert distance_to_multiple(rows, 100) == distance


def test_a_design_without_tables_or_faults_has_no_warnings() -> None:
    assert warnings(Design(model=SMALL.model)) == []
    assert warnings(SMALL) == []


def test_more_than_half_in_tables_is_told() -> None:
    """Principle 2 of arXiv:2601.21204: at most 50% of all parameters."""
    assert SMALL.ngram is not None
    rows = tuple(50 * size for size in SMALL.ngram.table_rows)
    assert rows[0] % 10_000 > 10
    sentences = warnings(replace(SMALL, ngrams=(replace(SMALL.ngram, table_rows=rows),)))
    assert any(sentence.startswith("n-gram tables hold ") for sentence in sentences)


def test_more_rows_than_one_int32_numbers_are_told() -> None:
    """SGLang numbers the rows of all tables together, in int32."""
    assert LITE.ngram is not None
    sentences = warnings_of(replace(LITE.ngram, table_rows=(179_000_001,) * 12))
    assert any(
        sentence.startswith("All tables together have 2148000012 rows") for sentence in sentences
    )
