"""The experiments of reports/experiments: what their arms are, and that a cell is trained once."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ngscale.params import most_active, total_parameters
from ngscale.spec import NgramSpec
from ngscale.table_sizes import is_sound
from ngscale.tokens import TokenStream
from ngscale.train_small.config import Training
from ngscale.train_small.data import cut_blocks
from reports.experiments import cells, e1, e2, e3, e4, e5, outcome, report, sharing
from reports.experiments.outcome import Found
from reports.experiments.registry import EXPERIMENTS
from reports.experiments.scale import Arm


def _spread(arms: list[Arm]) -> float:
    totals = [total_parameters(arm.design) for arm in arms]
    return max(totals) / min(totals) - 1


@pytest.mark.parametrize("experiment", [e2, e3, e4], ids=lambda e: e.__name__)
def test_arms_have_equal_parameters_within_a_thousandth(experiment: object) -> None:
    assert _spread(experiment.arms()) < 1e-3  # type: ignore[attr-defined]


def test_pairings_of_placements_have_equal_parameters_within_a_thousandth() -> None:
    pairings = defaultdict(list)
    for arm in e5.arms():
        pairings[arm.facts["pairing"]].append(arm)
    assert {pairing: len(arms) for pairing, arms in pairings.items()} == {"PLE": 2, "PLNE": 4}
    assert max(_spread(arms) for arms in pairings.values()) < 1e-3


def test_the_pareto_pairs_have_equal_parameters_within_a_hundredth_and_the_shares_named() -> None:
    arms = {arm.name: arm for arm in e1.arms()}
    for name, arm in arms.items():
        total = total_parameters(arm.design)
        if arm.facts["kind"] == "tables":
            assert total == pytest.approx(
                total_parameters(arms[name.replace("tables", "MoE")].design), rel=0.01
            )
        if not arm.facts["share"]:
            assert total / most_active(arm.design) == pytest.approx(
                arm.facts["base_ratio"], rel=0.01
            )


def test_sizes_of_e2_are_on_and_off_resonance_as_their_names_say() -> None:
    for arm in e2.arms():
        spec = arm.design.ngrams[0]
        assert not spec.hash.table_bases or arm.facts["sizes"] == "random base"  # type: ignore[union-attr]
        if spec.hash.table_bases:  # type: ignore[union-attr]
            continue
        sound = is_sound(spec.table_rows, spec.hash.base, spec.table_orders)  # type: ignore[union-attr]
        assert sound == (arm.facts["sizes"] in ("clean", "clean prime")), arm.name


def test_pairs_name_arms() -> None:
    for experiment in EXPERIMENTS.values():
        arms = experiment.arms()
        names = [arm.name for arm in arms]
        assert max(Counter(names).values()) == 1
        assert {name for pair in experiment.pairs(arms) for name in pair} <= set(names)


def test_every_committed_cell_is_of_an_arm() -> None:
    arms = [arm for experiment in EXPERIMENTS.values() for arm in experiment.arms()]
    known = {cells.name_of(arm, seed) for arm in arms for seed in range(32)}
    stored = sorted(path.stem.removesuffix("-sharing") for path in cells.STORE.glob("*.json"))
    assert set(stored) <= known


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Arm:
    """A store of its own, a few steps on random ids, and one arm."""
    training = Training(seq_len=16, batch_size=2, num_evals=2, max_eval_blocks=8)
    ids = np.random.default_rng(0).integers(1, 4096, 20_000)
    stream = TokenStream(
        tokens=ids.astype(np.uint32),
        doc_starts=np.arange(0, 20_001, 100, dtype=np.int64),
        vocab_size=4096,
        num_bytes=0,
    )
    blocks = cut_blocks(
        stream, separator=0, seq_len=16, held_out_frac=0.1, section_tokens=50, min_train=2
    )
    monkeypatch.setattr(cells, "STORE", tmp_path / "cells")
    monkeypatch.setattr(cells, "TRAINING", training)
    monkeypatch.setattr(sharing, "TRAINING", training)
    monkeypatch.setattr(cells, "blocks", lambda: blocks)
    monkeypatch.setattr(cells, "NUM_PROBED_BLOCKS", 2)
    monkeypatch.setenv("NGSCALE_CACHE", str(tmp_path / "cache"))
    sharing._trained_ngrams.cache_clear()
    return replace(e2.arms()[0], tokens=128)


def test_a_cell_is_trained_once_and_its_record_is_a_function_of_cells(small: Arm) -> None:
    other = replace(e3.arms()[0], tokens=128, name="other", family=small.family)
    cells.run([("e", small), ("e", other)], [0, 1])
    first = {path.name: path.read_bytes() for path in cells.STORE.iterdir()}
    assert len(first) == 4
    assert cells.read(small, 0)["val_curve"][-1][0] == 128
    assert [point["tokens"] for point in cells.read(small, 0)["norms"]] == [64, 128]
    for path in cells.STORE.iterdir():  # what is finished is not trained again
        path.write_text(path.read_text().replace("threads", "untouched"))
    cells.run([("e", small), ("e", other)], [0, 1])
    assert all("untouched" in path.read_text() for path in cells.STORE.iterdir())

    experiment = replace(
        EXPERIMENTS["e4"],
        arms=lambda: [small, other],
        pairs=lambda arms: [("other", small.name)],
        answer=lambda found: "Answer.",
        columns={},
    )
    record = outcome.make_record("e4", experiment, 3)
    assert record is not None
    assert [arm["seeds"] for arm in record.results["arms"]] == [[0, 1]] * 2
    losses = {arm["arm"]: arm["losses"] for arm in record.results["arms"]}
    found = record.results["comparisons"][0]
    assert found["differences"] == pytest.approx(
        [a - b for a, b in zip(losses["other"], losses[small.name], strict=True)]
    )
    assert report.build_report(record, experiment).answer.startswith("Answer. 2 seeds x 128 tokens")
    assert record.results["left_out"] == []
    # A third seed that only one arm has is left out, and so is a family without any.
    cells.run([("e", small)], [2])
    assert outcome.make_record("e4", experiment, 3) == record
    late = replace(small, tokens=160, name="late", family="late")
    partial = replace(experiment, arms=lambda: [small, other, late])
    found = outcome.make_record("e4", partial, 3)
    assert found is not None
    assert found.results == {**record.results, "left_out": ["late"]}
    assert found.answer.endswith("Not trained yet: late.")


def test_without_a_complete_seed_there_is_no_record(small: Arm) -> None:
    experiment = replace(EXPERIMENTS["e4"], arms=lambda: [small])
    assert outcome.make_record("e4", experiment, 3) is None


def test_sharing_is_what_a_dictionary_of_rows_counts(small: Arm) -> None:
    arm = next(arm for arm in e2.arms() if arm.name == "N4-K4 random base")
    sharing.measure_missing([replace(arm, tokens=2048)])
    found = sharing.load(replace(arm, tokens=2048))
    assert {**found, **_plainly(arm.design.ngrams[0], 2048)} == pytest.approx(dict(found))


def _plainly(spec: NgramSpec, tokens: int) -> dict[str, float]:
    """Means over orders, one n-gram at a time."""
    epochs, chosen = cells.blocks().trained(seed=0, num_blocks=tokens // 16)
    assert epochs == 0
    lines = cells.blocks().train.take(chosen)[:, :-1].tolist()
    of_orders = []
    for order in spec.orders:
        grams = Counter(
            tuple(line[i - order + 1 : i + 1])
            for line in lines
            for i in range(order - 1, len(line))
        )
        total, own = sum(grams.values()), list(spec.tables_of(order))
        everywhere: dict[tuple[int, ...], list[int]] = {gram: [] for gram in grams}
        collisions, shared_tokens, impurities = [], [], []
        for i in own:
            base = spec.hash.base_of(i)  # type: ignore[union-attr]
            rows = {
                gram: sum(c * base**s for s, c in enumerate(reversed(gram))) % spec.table_rows[i]
                for gram in grams
            }
            members, traffic = Counter(rows.values()), Counter[int]()
            for gram, row in rows.items():
                traffic[row] += grams[gram]
                everywhere[gram].append(row)
            collisions.append(len(grams) - len(members))
            shared_tokens.append(sum(c for g, c in grams.items() if members[rows[g]] > 1) / total)
            purity = sum(c * c / traffic[rows[g]] for g, c in grams.items()) / total
            impurities.append(1 - purity)
        places = [Counter(rows[k] for rows in everywhere.values()) for k in range(len(own))]
        classes = Counter(tuple(rows) for rows in everywhere.values())
        of_orders.append(
            {
                "collisions": np.mean(collisions),
                "sharing": np.mean(shared_tokens),
                "impurity": np.mean(impurities),
                "all_k_sharing": sum(
                    count
                    for gram, count in grams.items()
                    if all(places[k][row] > 1 for k, row in enumerate(everywhere[gram]))
                )
                / total,
                "identity_loss": sum(
                    c for g, c in grams.items() if classes[tuple(everywhere[g])] > 1
                )
                / total,
            }
        )
    return {key: float(np.mean([one[key] for one in of_orders])) for key in of_orders[0]}


def test_the_metric_that_orders_the_losses_is_found() -> None:
    arms: list[dict[str, object]] = [
        {"arm": str(i), "shape": "N2-K1", "losses": [3.0 + 0.1 * i, 3.01 + 0.1 * i]}
        for i in range(8)
    ]
    values = [
        {
            "arm": str(i),
            **dict.fromkeys(sharing.METRICS, 1.0),
            "impurity": 0.1 * i,
            "sharing": -float(i),
        }
        for i in range(8)
    ]
    found = Found(arms=arms, comparisons=[], left_out=[], more={"sharing": values})
    rows = {row["metric"]: row for row in e2.rank_correlations(found)}
    assert rows["impurity"]["fine"] == rows["impurity"]["all"] == 1
    assert rows["sharing"]["fine"] == -1
    assert rows["collisions"]["fine"] is None
    json.dumps(list(rows.values()), allow_nan=False)
