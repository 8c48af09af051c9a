"""What each arm holds constant, and what it takes away."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ngscale.architectures import with_keys
from ngscale.design import Design, decoder_config, design_of
from ngscale.errors import InputError, UsageError
from ngscale.hashing.definition import row_ids_exact
from ngscale.hashing.torch_twin import NgramHash
from ngscale.params import most_active, parameter_groups, total_parameters
from ngscale.policy import MODES, mode_policy
from ngscale.table_sizes import is_sound
from ngscale.train_small.arms import make_arms, random_bases, unigram
from ngscale.train_small.config import DEFAULT_DESIGN
from tests.model.small import DESIGN, MODEL, PLAIN, SPEC


def arms(design: Design, *extra: str) -> dict[str, Design]:
    return {arm.name: arm.design for arm in make_arms(design, extra)}


def test_the_five_arms() -> None:
    assert list(arms(DEFAULT_DESIGN)) == [
        "design",
        "equivalent-moe",
        "capacity-1",
        "unigram-tables",
        "base-moe",
    ]


def test_a_candidate_has_two_and_what_is_asked_for() -> None:
    named = make_arms(DESIGN, ("unigram-tables",), candidate="big")
    assert [arm.name for arm in named] == [
        "big/design",
        "big/equivalent-moe",
        "big/unigram-tables",
    ]


def test_the_equivalent_moe_has_the_total_and_the_active_parameters_of_the_design() -> None:
    made = arms(DEFAULT_DESIGN)
    design, moe = made["design"], made["equivalent-moe"]
    assert total_parameters(moe) == pytest.approx(total_parameters(design), rel=0.01)
    assert most_active(moe) == pytest.approx(most_active(design), rel=0.01)


def test_capacity_1_keeps_everything_but_the_rows() -> None:
    made = arms(DEFAULT_DESIGN)
    expected = parameter_groups(made["design"]) | {"ngram_tables": 4 * 32}
    assert parameter_groups(made["capacity-1"]) == expected
    assert most_active(made["capacity-1"]) == most_active(made["design"])


def test_unigram_tables_keep_every_parameter_and_are_written_as_config() -> None:
    made = arms(DEFAULT_DESIGN)
    design = made["unigram-tables"]
    assert parameter_groups(design) == parameter_groups(made["design"])
    assert design_of(json.loads(json.dumps(decoder_config(design)))) == design


@pytest.mark.parametrize("mode", MODES)
def test_unigram_rows_are_the_current_token(mode: str) -> None:
    """By the definition and the torch twin; where a policy replaces the id, it does here too."""
    policy = mode_policy(mode, 5, ((60, 64),))
    spec = unigram(replace(SPEC, policy=policy))
    tokens = np.random.default_rng(0).integers(0, 64, 300).tolist()
    exact = row_ids_exact(tokens, spec)
    twin = NgramHash(spec)(torch.tensor([tokens]))[0].tolist()
    assert twin == [[-1 if row is None else row for row in rows] for rows in exact]
    for place, (token, rows) in enumerate(zip(tokens, exact, strict=True)):
        if policy.ignores(token) or (mode == "vllm_neg" and token == 5):
            continue
        if mode == "invalid":  # an ignored id within reach sends the whole n-gram away
            near = tokens[max(0, place - 2) : place + 1]
            if any(policy.ignores(other) for other in near):
                continue
        assert rows == [token] * spec.num_tables


def test_the_base_is_the_backbone_alone() -> None:
    assert arms(DEFAULT_DESIGN)["base-moe"] == Design(model=DEFAULT_DESIGN.model)


def test_iso_flop_has_the_total_and_costs_what_the_design_costs() -> None:
    """Small tables: their projections cost more than the routers of the experts they stand for."""
    spec = DEFAULT_DESIGN.ngram
    assert spec is not None
    few = replace(spec, table_rows=(1201, 1203, 1205, 1207))
    narrow = with_keys(DEFAULT_DESIGN.model, {"moe_intermediate_size": 16, "num_experts": 32})
    made = arms(Design(model=narrow, ngrams=(few,)), "iso-flop")
    design, moe, wide = made["design"], made["equivalent-moe"], made["iso-flop"]
    assert not wide.ngrams
    assert total_parameters(wide) == pytest.approx(total_parameters(design), rel=0.01)
    wanted = most_active(design)
    assert abs(most_active(wide) - wanted) < 0.5 * abs(most_active(moe) - wanted)


def test_iso_flop_is_refused_where_the_equivalent_moe_is_as_near_as_can_be() -> None:
    with pytest.raises(UsageError, match=r"up to 0\.49%; no width of experts in steps of 8"):
        make_arms(DEFAULT_DESIGN, ("iso-flop",))


def test_amplification_is_toggled() -> None:
    spec = arms(DESIGN, "amplification")["amplification"].ngram
    assert spec is not None
    assert spec.amplification == "sqrt_d"
    loud = replace(DESIGN, ngrams=(replace(SPEC, amplification="layernorm"),))
    quiet = arms(loud, "amplification")["amplification"].ngram
    assert quiet == SPEC


def test_the_ideal_hash_shares_no_base_with_another_table_and_no_structure() -> None:
    """Bigrams that differ little never share a row, as in the design's own resonances they do."""
    spec = DEFAULT_DESIGN.ngram
    assert spec is not None
    ideal = random_bases(spec)
    assert ideal.table_rows == spec.table_rows
    assert len({ideal.hash.base_of(i) for i in range(4)}) == 4  # type: ignore[union-attr]
    resonant = replace(spec, table_rows=(4 * 4096,) * 4)
    near = {(0, 0), (4, 0), (8, 0), (0, 1), (1, 1), (5, 1)}
    ids = {pair: row_ids_exact([9, *pair], resonant)[2][0] for pair in near}
    assert len(set(ids.values())) < len(near)
    ids = {pair: row_ids_exact([9, *pair], random_bases(resonant))[2][0] for pair in near}
    assert len(set(ids.values())) == len(near)


def test_other_table_sizes_by_factor_and_by_name() -> None:
    made = arms(DEFAULT_DESIGN, "table-rows=x0.5", "table-rows=101,103,107,109")
    spec = made["table-rows=x0.5"].ngram
    assert spec is not None
    assert spec.table_rows[0] == pytest.approx(17_703 / 2, rel=0.02)
    assert is_sound(spec.table_rows, 4096, spec.table_orders)
    named = made["table-rows=101,103,107,109"].ngram
    assert named is not None
    assert named.table_rows == (101, 103, 107, 109)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("better", "--arm better: known are capacity-1, "),
        ("table-rows=x", "xF takes a number"),
        ("table-rows=x-1", "a positive number"),
        ("table-rows=7", "4 tables need 4 sizes"),
        ("table-rows=a,b", "takes xF or whole numbers"),
    ],
)
def test_an_arm_that_cannot_be_made_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_arms(DESIGN, (name,))


def test_a_design_without_tables_has_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="no n-gram tables"):
        make_arms(PLAIN)


def test_experts_too_big_to_match_the_total_are_refused() -> None:
    model = with_keys(MODEL, {"moe_intermediate_size": 400})
    with pytest.raises(InputError, match="no whole number of experts"):
        make_arms(replace(DESIGN, model=model))
