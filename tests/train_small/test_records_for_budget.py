"""What ``train-small`` writes is what ``budget --records`` reads."""

from pathlib import Path

from ngscale.budget.training_records import read_training_records
from ngscale.records import dump_json
from ngscale.train_small.cells import CellStore
from ngscale.train_small.run import train_small
from tests.train_small.small import request


def test_a_fresh_record_is_read_and_left_out_for_its_two_seeds(tmp_path: Path) -> None:
    record = train_small(request(num_seeds=2), CellStore(None))
    path = tmp_path / "fresh" / "record.json"
    path.parent.mkdir()
    path.write_text(dump_json(record.document()))
    found = read_training_records(tmp_path)
    assert found.pairs == ()
    assert found.left_out == ("fresh: 2 seeds, fewer than 3",)
