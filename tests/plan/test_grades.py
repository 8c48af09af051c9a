"""The scale of evidence never flatters."""

from itertools import product

import pytest

from ngscale.plan.grades import LEVELS, Trained, grade
from ngscale.train_small.comparison import Verdict


def trained(num_seeds: int, tokens: float, *verdicts: Verdict) -> Trained:
    return Trained(num_seeds=num_seeds, tokens_per_active_parameter=tokens, verdicts=verdicts)


def test_nothing_trained_is_arithmetic_only() -> None:
    found = grade(None)
    assert (str(found), found.why) == ("arithmetic only", "nothing was trained")


@pytest.mark.parametrize(
    ("num_seeds", "tokens", "why"),
    [
        (2, 100.0, "fewer than 3 seeds (2)"),
        (1, 100.0, "fewer than 3 seeds (1)"),
        (3, 19.9, "20 training tokens per active parameter, fewer than 20"),
        (30, 0.34, "0.34 training tokens per active parameter, fewer than 20"),
        (
            2,
            1.0,
            "fewer than 3 seeds (2) and 1 training tokens per active parameter, fewer than 20",
        ),
    ],
)
def test_few_seeds_or_tokens_are_a_smoke_test_whatever_the_verdicts(
    num_seeds: int, tokens: float, why: str
) -> None:
    found = grade(trained(num_seeds, tokens, "better", "better", "better"))
    assert (str(found), found.why) == ("smoke test", why)


def test_one_undecided_comparison_leaves_a_proxy_undecided() -> None:
    found = grade(trained(3, 20.0, "better", "undecided", "better"))
    assert str(found) == "proxy, undecided"
    assert found.why == "1 of 3 comparisons undecided at 3 seeds x 20 tokens per active parameter"


def test_the_highest_grade_tells_its_seeds() -> None:
    found = grade(trained(5, 21.0, "better", "worse", "equivalent"))
    assert str(found) == "proxy, decided at 5 seeds"


def test_more_seeds_and_tokens_never_lower_a_grade() -> None:
    either: tuple[Verdict, ...] = ("better", "undecided")
    for verdicts in product(either, repeat=2):
        ranks = [
            [grade(trained(seeds, tokens, *verdicts)).rank for tokens in (1.0, 19.0, 20.0, 80.0)]
            for seeds in (1, 2, 3, 9)
        ]
        for row in (*ranks, *zip(*ranks, strict=True)):
            assert list(row) == sorted(row)
    assert [LEVELS.index(level) for level in LEVELS] == [0, 1, 2, 3]
