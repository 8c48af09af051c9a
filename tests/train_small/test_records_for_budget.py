"""What ``train-small`` writes is what ``budget --records`` reads."""

from dataclasses import replace
from pathlib import Path

from ngscale.budget.training_records import TrainingRecords, read_training_records
from ngscale.records import RunRecord, dump_json
from ngscale.train_small.candidates import Candidate
from ngscale.train_small.cells import CellStore
from ngscale.train_small.config import Arm
from tests.model.small import DESIGN
from tests.train_small.small import request, train_small


def test_a_fresh_record_is_read_and_left_out_for_its_two_seeds(tmp_path: Path) -> None:
    found = read_back(train_small(request(num_seeds=2), CellStore(None)), tmp_path)
    assert found.pairs == ()
    (clause,) = found.left_out
    assert clause.startswith("fresh: fewer than 3 seeds (2); ")


def test_every_candidate_is_a_pair_of_its_own(tmp_path: Path) -> None:
    both = (Candidate(name="a", design=DESIGN), Candidate(name="b", design=DESIGN))
    asked = replace(request(num_seeds=3), candidates=both)
    found = read_back(train_small(asked, CellStore(None)), tmp_path)
    density = f"{640 / Arm(name='', design=DESIGN).active_parameters:.2g}"
    said = f"{density} training tokens per active parameter, fewer than 20"
    assert found.left_out == (f"fresh/a: {said}", f"fresh/b: {said}")


def read_back(record: RunRecord, directory: Path) -> TrainingRecords:
    path = directory / "fresh" / "record.json"
    path.parent.mkdir()
    path.write_text(dump_json(record.document()))
    return read_training_records(directory)
