import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from ngscale.errors import InputError, ResourceError
from ngscale.ngram_files import NgramSource, read_parquet, write_parquet
from ngscale.ngrams import NgramTable, count_ngrams
from tests.test_ngrams import documents, same, stream_of, zipf_stream

STREAM = zipf_stream(20_000)
SOURCE = NgramSource.of(STREAM)
TABLE = count_ngrams(STREAM, 3)[3]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "grams.parquet"
    write_parquet(TABLE, path, SOURCE)
    return path


@given(documents)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, docs: list[list[int]]
) -> None:
    stream = stream_of(docs)
    source = NgramSource.of(stream)
    path = tmp_path_factory.mktemp("grams") / "grams.parquet"
    for order, table in count_ngrams(stream, orders=range(1, 9)).items():
        write_parquet(table, path, source)
        again, found = read_parquet(path)
        assert same({order: again}, {order: table})
        assert again.order == order
        assert found == source


def test_columns_count_tokens_back_and_metadata_name_the_source(saved: Path) -> None:
    table = pq.read_table(saved)
    assert table.schema.names == ["t0", "t1", "t2", "count"]
    assert table["t0"].to_pylist() == TABLE.tokens[0].tolist()
    facts = json.loads(table.schema.metadata[b"ngscale.ngrams"])
    assert facts == {
        "format": 1,
        "order": 3,
        "distinct": TABLE.distinct,
        "occurrences": TABLE.occurrences,
        "stream_sha256": STREAM.sha256(),
        "vocab_size": 500,
        "num_docs": STREAM.num_docs,
        "cross_documents": False,
    }


def test_equal_tables_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    write_parquet(count_ngrams(STREAM, 3, threads=1)[3], tmp_path / "again.parquet", SOURCE)
    assert (tmp_path / "again.parquet").read_bytes() == saved.read_bytes()


def test_row_groups_and_memory_maps_change_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = count_ngrams(STREAM, 3, directory=tmp_path)[3]
    monkeypatch.setattr("ngscale.ngram_files._ROW_GROUP", 1000)
    write_parquet(table, tmp_path / "grams.parquet", SOURCE)
    again, _ = read_parquet(tmp_path / "grams.parquet")
    assert pq.ParquetFile(tmp_path / "grams.parquet").num_row_groups > 1
    assert same({3: again}, {3: TABLE})


def test_a_table_without_rows_is_a_file_too(tmp_path: Path) -> None:
    empty = NgramTable(order=2, tokens=np.empty((2, 0), np.uint32), counts=np.empty(0, np.int64))
    write_parquet(empty, tmp_path / "empty.parquet", SOURCE)
    assert read_parquet(tmp_path / "empty.parquet")[0].distinct == 0


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def facts_with(**changes: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        facts = {**json.loads(table.schema.metadata[b"ngscale.ngrams"]), **changes}
        return table.replace_schema_metadata({b"ngscale.ngrams": json.dumps(facts).encode()})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace_schema_metadata(None), "is no n-gram table"),
        (lambda t: t.replace_schema_metadata({b"ngscale.ngrams": b"{"}), "is no JSON"),
        (lambda t: t.replace_schema_metadata({b"ngscale.ngrams": b"[]"}), "'format'"),
        (facts_with(order="3"), "'order' must be of type int"),
        (facts_with(order=9), r"order 9 is not in 1\.\.8"),
        (facts_with(order=2), r"columns t0\.\.t1"),
        (facts_with(format=2), "format 2, this version reads 1"),
        (facts_with(vocab_size=3), "is not below vocab_size 3"),
        (facts_with(occurrences=1), "the metadata says 1"),
        (facts_with(stream_sha256=None), "'stream_sha256' must be of type str"),
        (lambda t: t.slice(1), "must have"),
        (lambda t: t.drop_columns(["count"]), "must have"),
        (lambda t: t.select(["t0", "t2", "t1", "count"]), "must have"),
        (lambda t: t.set_column(3, "count", t["count"].cast(pa.int32())), "must have"),
        (lambda t: t.take(list(range(len(t) - 1, -1, -1))), "must ascend"),
        (lambda t: t.take([0, *range(len(t) - 1)]), "must ascend.*row 1 does not"),
    ],
)
def test_a_file_that_is_no_table_is_an_input_error(
    saved: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(InputError, match=message) as caught:
        read_parquet(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9, 0.999])
def test_a_truncated_file_is_an_input_error(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError) as caught:
        read_parquet(saved)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_noticed(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    with pytest.raises(InputError):
        read_parquet(saved)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_parquet(tmp_path / "none.parquet")


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        write_parquet(TABLE, saved, replace(SOURCE, num_docs=0))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["grams.parquet"]
