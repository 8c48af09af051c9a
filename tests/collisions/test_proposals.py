"""Proposed sizes: within the budget, sound, of their family."""

import math
from typing import Any

import pytest

from ngscale.collisions.proposals import FAMILIES, Budget, parse_families, propose
from ngscale.collisions.recommend_run import budget_of
from ngscale.config_reader import ConfigReader
from ngscale.errors import NoResultError, UsageError
from ngscale.ngram_config import specs_of
from ngscale.plan.choices import merged
from ngscale.primes import is_prime, next_prime
from ngscale.row_counts import longcat_rows
from ngscale.spec import order_major
from ngscale.table_sizes import is_sound

BASE = 4096
ORDERS = order_major(3, 2)


def budget(**changes: object) -> Budget:
    fields: dict[str, object] = {
        "base": BASE,
        "orders": ORDERS,
        "total_rows": sum(longcat_rows(31, BASE, 4)),
        "ratio": 31,
    }
    return Budget(**(fields | changes))  # type: ignore[arg-type]


def test_every_proposal_is_sound_and_within_the_budget() -> None:
    proposals = propose(budget(), {}, FAMILIES)
    names = [proposal.name for proposal in proposals]
    assert names == ["smallest change", "best ratio", "consecutive primes", "explicit rows"]
    for proposal in proposals:
        assert is_sound(proposal.table_rows, BASE, ORDERS)
        if proposal.name != "smallest change":  # the nearest ratio may lie above
            assert sum(proposal.table_rows) <= budget().total_rows
            assert sum(proposal.table_rows) > 0.9 * budget().total_rows


def test_each_family_keeps_its_formula() -> None:
    small, ratio, primes, explicit = propose(budget(), {"oe_vocab_size_ratio": 31}, FAMILIES)
    for proposal in (small, ratio):
        value = proposal.patch["oe_vocab_size_ratio"]
        assert proposal.table_rows == longcat_rows(value, BASE, 4)
    assert all(map(is_prime, primes.table_rows))
    assert [next_prime(rows) for rows in primes.table_rows[:-1]] == list(primes.table_rows[1:])
    bigrams = explicit.table_rows[:2]
    assert math.gcd(*bigrams) == 1
    assert abs(bigrams[0] - bigrams[1]) > 0.1 * BASE
    assert explicit.patch == {"ngscale": {"table_rows": list(explicit.table_rows)}}


CONFIG = {
    "vocab_size": BASE,
    "hidden_size": 64,
    "ngram_vocab_size_ratio": 31,
    "emb_neighbor_num": 3,
    "emb_split_num": 2,
    "eos_token_id": 0,
}
LISTED = {"ngscale": {"table_rows": list(longcat_rows(31, BASE, 4))}}
OVER_ENCODING = {
    "vocab_size": BASE,
    "oe_grams": [2, 2, 3, 3],
    "oe_vocab_sizes": list(longcat_rows(31, BASE, 4)),
}


@pytest.mark.parametrize("config", [CONFIG, CONFIG | LISTED, OVER_ENCODING])
def test_the_patched_config_has_the_rows_proposed(config: dict[str, Any]) -> None:
    reader = ConfigReader({"model_type": "longcat_flash_ngram", **config}, "config.json")
    (spec,) = specs_of(reader)
    proposals = propose(budget_of(spec, config), config, FAMILIES)
    assert len(proposals) == (4 if config is CONFIG else 3)
    for proposal in proposals:
        patched = merged(reader.values, proposal.patch)
        (mended,) = specs_of(ConfigReader(patched, "config.json"))
        assert mended.table_rows == proposal.table_rows


def test_no_sound_ratio_is_nearer_than_the_smallest_change() -> None:
    (small, *_) = propose(budget(), {}, ("longcat",))
    value = small.patch["ngram_vocab_size_ratio"]
    steps = round(abs(value - 31) * 1000)
    assert steps > 0
    for k in range(steps):
        for ratio in ((31_000 - k) / 1000, (31_000 + k) / 1000):
            assert not is_sound(longcat_rows(ratio, BASE, 4), BASE, ORDERS)


def test_stored_rows_are_padded_within_the_budget() -> None:
    padded = budget(multiple=1024)
    for proposal in propose(padded, {}, ("explicit", "primes")):
        assert padded.stored(proposal.table_rows) <= padded.total_rows
        assert padded.stored(proposal.table_rows) % 1024 == 0
        assert any(rows % 1024 for rows in proposal.table_rows)


def test_a_budget_without_room_is_refused() -> None:
    with pytest.raises(NoResultError, match="too few for 4 tables"):
        budget(total_rows=4000)
    with pytest.raises(NoResultError, match="too few"):
        budget(multiple=2**20)


def test_more_rows_than_engines_number_are_refused_at_once() -> None:
    with pytest.raises(NoResultError, match="engines take 2,147,483,647 at most"):
        budget(total_rows=4 * 2**31)


def test_families_are_parsed() -> None:
    assert parse_families(None) == FAMILIES
    assert parse_families("explicit,longcat") == ("longcat", "explicit")
    with pytest.raises(UsageError, match="--family fancy"):
        parse_families("fancy")
