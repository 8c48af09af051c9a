"""Tables with planted faults, and what is told of them."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ngscale.architectures.ngscale_moe import DecoderConfig, decoder_model
from ngscale.design import Design
from ngscale.errors import InputError, UnsafeInputError
from ngscale.hashing.definition import row_ids_exact
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.policy import Policy
from ngscale.probe import table_files
from ngscale.probe.autopsy import (
    autopsy,
    effective_rank,
    fingerprints,
    lowest_bits,
    quantisation_errors,
)
from ngscale.probe.table_files import find_tables, gather_rows, read_rows
from ngscale.probe.table_run import probe_tables
from ngscale.probe.traffic import row_traffic
from ngscale.spec import NgramSpec, XorHash, longcat_spec
from ngscale.tokens import TokenStream
from tests.designs import policy_of
from tests.probe.models import VOCAB_SIZE, random_model
from tests.probe.table_checkpoints import (
    LONGCAT,
    NUM_TABLES,
    ROWS,
    WIDTH,
    random_projections,
    random_tables,
    random_words,
    save_longcat,
)


def whole(directory: Path, number: int) -> np.ndarray:
    table = find_tables(directory).tables[number]
    return np.concatenate([chunk for chunk, _ in read_rows(directory, table.parts)])


def text(num_tokens: int = 400, documents: tuple[int, ...] = ()) -> TokenStream:
    tokens = np.random.default_rng(5).integers(0, VOCAB_SIZE, size=num_tokens)
    return TokenStream(
        tokens=tokens.astype(np.uint32),
        doc_starts=np.array([0, *documents, num_tokens]),
        vocab_size=VOCAB_SIZE,
        num_bytes=0,
    )


def run(directory: Path, stream: TokenStream | None = None) -> dict[str, Any]:
    return dict(probe_tables(find_tables(directory), stream, done=lambda: None).results)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {
            "table_name": "model.oe_embed_tokens{}.weight",
            "projection_name": "model.oe_embed_proj{}.weight",
        },
        {
            "table_name": "model.oe_embed_tokens{}.weight",
            "projection_name": "model.oe_embed_proj{}.weight",
            "transposed": True,
        },
    ],
)
def test_longcats_layouts_are_found_with_their_projections(
    names: dict[str, Any], tmp_path: Path
) -> None:
    """HASHING 9.1: both families of names; TokenSpeed also takes projections as [d, D]."""
    tables = random_tables()
    found = find_tables(save_longcat(tmp_path, tables, **names))
    assert [table.order for table in found.tables] == [2, 2, 3, 3]
    for i, (table, projection) in enumerate(zip(found.tables, random_projections(), strict=True)):
        assert np.array_equal(whole(tmp_path, i), tables[i])
        assert table.projection is not None
        assert np.array_equal(table.projection, projection)


def test_padding_rows_are_left_out(tmp_path: Path) -> None:
    tables = [np.pad(table, ((0, 7), (0, 0)), constant_values=9.0) for table in random_tables()]
    save_longcat(tmp_path, tables)
    assert [table["num_rows"] for table in run(tmp_path)["tables"]] == list(ROWS)
    assert whole(tmp_path, 1).max() < 9


def test_qwens_shards_are_cut_into_tables(tmp_path: Path) -> None:
    """Two shards hold four tables one below the other (transformers 5.23, qwen4_exp)."""
    model = random_model("qwen4_exp")
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    shards = sorted(name for name in stored if ".shard_" in name)
    assert len(shards) == 2
    joined = np.concatenate([stored[name] for name in shards])
    found = find_tables(tmp_path)
    assert [table.order for table in found.tables] == [2, 2, 3, 3]
    start = 0
    for i, table in enumerate(found.tables):
        assert np.array_equal(whole(tmp_path, i), joined[start : start + table.num_rows])
        assert table.projection is not None
        assert table.projection.shape == (32, 8)
        start += table.num_rows
    some = np.array([found.tables[1].num_rows - 1, 0, 3, 0])
    gathered = gather_rows(tmp_path, found.tables[1].parts, some)
    assert np.array_equal(gathered, whole(tmp_path, 1)[some])


def test_our_own_decoders_tables_are_cut_at_their_starts(tmp_path: Path) -> None:
    model = decoder_model(
        DecoderConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            moe_intermediate_size=16,
            num_experts=2,
            num_experts_per_tok=1,
        )
    )
    spec = longcat_spec(
        vocab_size=VOCAB_SIZE,
        max_order=3,
        num_subtables=2,
        table_rows=(101, 103, 107, 109),
        policy=policy_of(2),
    )
    design = Design(model=model, ngrams=(spec,))
    decoder = Decoder(design)
    decoder.initialise(seed=1)
    embedding = decoder.embed_tokens
    assert isinstance(embedding, NgramEmbedding)
    assert all(
        table["num_zero"] == table["num_rows"] for table in _saved(decoder, design, tmp_path)
    )
    torch.nn.init.normal_(embedding.tables.weight)
    assert all(table["num_zero"] == 0 for table in _saved(decoder, design, tmp_path))
    for i, table in enumerate(find_tables(tmp_path).tables):
        assert np.array_equal(whole(tmp_path, i), embedding.table(i).detach().numpy())
        assert table.projection is not None
        assert np.array_equal(table.projection, embedding.table_projection(i).detach().numpy())


def _saved(decoder: Decoder, design: Design, directory: Path) -> list[dict[str, Any]]:
    save_decoder(decoder, design, directory)
    found: list[dict[str, Any]] = run(directory)["tables"]
    return found


def test_planted_dead_rows_duplicates_and_scales_are_counted(tmp_path: Path) -> None:
    tables = random_tables()
    tables[0][10:25] = 0  # 15 dead rows
    tables[1][50:54] = tables[1][7]  # 4 repeat another: a group of 5
    tables[1][60] = tables[1][61]
    tables[2] *= 100
    tables[3][:, 3:] = 0  # rank 3
    found = run(save_longcat(tmp_path, tables))["tables"]
    assert [table["num_zero"] for table in found] == [15, 0, 0, 0]
    assert [table["num_duplicates"] for table in found] == [0, 5, 0, 0]
    assert [table["largest_group"] for table in found] == [1, 5, 1, 1]
    norms = np.linalg.norm(tables[2], axis=1)
    assert found[2]["norm"]["median"] == pytest.approx(np.median(norms), rel=1e-5)
    assert found[2]["norm"]["max"] == pytest.approx(norms.max(), rel=1e-5)
    assert 7.5 < found[2]["effective_rank"] <= 8
    assert 2.9 < found[3]["effective_rank"] <= 3
    projected = np.linalg.norm(tables[2] @ random_projections()[2].T, axis=1)
    assert found[2]["projected_norm"]["median"] == pytest.approx(np.median(projected), rel=1e-4)


def test_memory_stays_far_below_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 MB of rows; kept are some 40 bytes a row (8 MB) and a few chunks."""
    rows, width = 2000 * VOCAB_SIZE + 1, 64
    table = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    config = LONGCAT | {"hidden_size": width, "ngram_vocab_size_ratio": 2000}
    config |= {"emb_neighbor_num": 2, "emb_split_num": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(
        {
            "model.embed_tokens.weight": np.ones((VOCAB_SIZE, width), dtype=np.float32),
            "model.ngram_embeddings.embedders.0.weight": table,
            "model.ngram_embeddings.post_projs.0.weight": np.eye(width, dtype=np.float32),
        },
        tmp_path / "model.safetensors",
    )
    num_bytes = table.nbytes
    del table
    monkeypatch.setattr(table_files, "CHUNK_BYTES", 2**20)
    found = find_tables(tmp_path)
    tracemalloc.start()
    try:
        autopsy(tmp_path, found.tables[0], traffic=None, initializer_range=None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.4 * num_bytes


def test_rows_at_initialisation_are_told_from_trained_ones(tmp_path: Path) -> None:
    """initializer_range 0.02; the chi-squared band leaves out 1 row in 5,000."""
    tables = random_tables()
    for table in tables:
        table[:100] *= 0.02
        table[100:] *= 0.5
    found = run(save_longcat(tmp_path, tables))["tables"]
    assert all(98 <= table["num_at_init"] <= 100 for table in found)
    silent = run(save_longcat(tmp_path, tables, initializer_range=0))["tables"]
    assert {table["num_at_init"] for table in silent} == {None}


def test_traffic_is_that_of_the_exact_hash(tmp_path: Path) -> None:
    spec = find_tables(save_longcat(tmp_path, random_tables())).specs[0]
    stream = text(documents=(100, 101, 250))
    expected = [np.zeros(rows, dtype=np.int64) for rows in ROWS]
    for start, end in zip(stream.doc_starts, stream.doc_starts[1:], strict=False):
        for rows in row_ids_exact(stream.tokens[start:end].tolist(), spec):
            for i, row in enumerate(rows):
                expected[i][row] += 1
    for i in range(NUM_TABLES):
        assert row_traffic(spec, i, stream).tolist() == expected[i].tolist()


def test_the_reserved_row_is_counted() -> None:
    """modded-nanogpt's: a position without an n-gram reads the row behind the hashed ones."""
    spec = NgramSpec(
        hash=XorHash(multipliers=(36313, 27191), arithmetic="int32"),
        vocab_size=VOCAB_SIZE,
        table_orders=(2,),
        table_rows=(97,),
        reserved_rows=1,
        policy=Policy(start="reserved_row", documents="none"),
    )
    found = row_traffic(spec, 0, text(documents=(33,)))
    assert len(found) == spec.readable_rows(0) == 98
    assert found[97] == 1
    assert found.sum() == 400


def test_chunks_of_tokens_and_of_rows_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_longcat(tmp_path, random_tables())
    stream = text(documents=(33,))
    expected = run(tmp_path, stream)
    monkeypatch.setattr("ngscale.probe.traffic._CHUNK_TOKENS", 7)
    monkeypatch.setattr(table_files, "CHUNK_BYTES", 4 * WIDTH * 13)
    spec = find_tables(tmp_path).specs[0]
    for i in range(NUM_TABLES):
        assert int(row_traffic(spec, i, stream).sum()) == 400
    monkeypatch.setattr("ngscale.probe.table_run.SAMPLE_TOKENS", 7)
    found = run(tmp_path, stream)
    for before, after in zip(expected["tables"], found["tables"], strict=True):
        assert after.keys() == before.keys()
        for key in ("num_read", "spearman", "norm_by_traffic", "num_duplicates", "norm"):
            assert after[key] == before[key]
        for scale, errors in before["errors"].items():
            assert after["errors"][scale] == pytest.approx(errors, rel=1e-5)


def test_traffic_weights_the_error(tmp_path: Path) -> None:
    """Rows that are read are exact in 3 bits, the others are not."""
    tables = random_tables()
    save_longcat(tmp_path, tables)
    spec, stream = find_tables(tmp_path).specs[0], text()
    for i, table in enumerate(tables):
        read = row_traffic(spec, i, stream) > 0
        table[read] = np.sign(table[read])  # 3 at scale 1/3
    save_longcat(tmp_path, tables)
    weighted, plain = run(tmp_path, stream)["tables"], run(tmp_path)["tables"]
    for with_text, without in zip(weighted, plain, strict=True):
        assert with_text["errors"]["block"]["3"] < 1e-6
        assert without["errors"]["block"]["3"] > 0.05
        assert with_text["lowest_bits"]["block"] == 3
        assert with_text["num_read_dead"] == 0


def test_word_and_ngram_part_are_compared_as_vectors(tmp_path: Path) -> None:
    tables, stream = random_tables(), text(200)
    save_longcat(tmp_path, tables)
    spec = find_tables(tmp_path).specs[0]
    tokens = stream.tokens.tolist()
    parts = np.zeros((200, 32))
    for position, rows in enumerate(row_ids_exact(tokens, spec)):
        for i, row in enumerate(rows):
            parts[position] += random_projections()[i] @ tables[i][row]
    word = np.linalg.norm(random_words()[tokens], axis=1)
    ngram = np.linalg.norm(parts, axis=1)
    found = run(tmp_path, stream)["word_and_ngram"]
    assert found["num_tokens"] == 200
    assert found["word_norm"]["median"] == pytest.approx(np.median(word), rel=1e-4)
    assert found["ngram_norm"]["median"] == pytest.approx(np.median(ngram), rel=1e-4)
    ratio = np.median(ngram / word)
    assert found["ngram_over_word"]["mean"] == pytest.approx(ratio, rel=1e-4)
    assert found["ngram_over_word"]["sum_only"] == pytest.approx(ratio / 5, rel=1e-4)


@given(
    st.lists(st.floats(-8, 8, width=32), min_size=8, max_size=8),
    st.integers(2, 8),
    st.integers(1, 8),
)
def test_quantisation_is_within_half_a_step(row: list[float], bits: int, block: int) -> None:
    """Against plain Python, block by block."""
    expected = 0.0
    for start in range(0, 8, block):
        part = row[start : start + block]
        step = max(map(abs, part)) / (2 ** (bits - 1) - 1)
        if step:
            errors = [abs(x - round(x / step) * step) for x in part]
            assert max(errors) <= step / 2 * 1.001
            expected += sum(error**2 for error in errors)
    found = quantisation_errors(np.array([row], dtype=np.float32), (bits,), block)[bits]
    peak = max(map(abs, row))
    assert found[0] == pytest.approx(expected, rel=1e-3, abs=1e-6 * peak**2 + 1e-30)


def test_effective_rank_is_that_of_the_singular_values() -> None:
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert effective_rank(np.zeros((5, 5))) == 0
    values = np.array([3.0, 1.0])  # shares 3/4, 1/4
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert effective_rank(np.diag(values**2)) == pytest.approx(expected)


def test_fingerprints_are_equal_for_equal_rows_only() -> None:
    rng = np.random.default_rng(0)
    for dtype, width in ((np.float32, 3), (np.uint16, 5), (np.float64, 1)):
        rows = rng.integers(0, 1000, size=(5000, width)).astype(dtype)
        prints = fingerprints(rows)
        assert len(np.unique(prints)) == len(np.unique(rows, axis=0))


def test_the_lowest_bits_are_those_under_the_line() -> None:
    assert lowest_bits({8: 0.004, 6: 0.02, 5: 0.04, 4: 0.09, 3: 0.2}) == 5
    assert lowest_bits({8: 0.2, 6: 0.3}) is None


def test_bfloat16_is_read_bit_by_bit(tmp_path: Path) -> None:
    import safetensors.torch

    values = {
        name: torch.from_numpy(value).bfloat16()
        for name, value in load_file(
            save_longcat(tmp_path, random_tables()) / "model.safetensors"
        ).items()
    }
    safetensors.torch.save_file(values, tmp_path / "model.safetensors")
    name = "model.ngram_embeddings.embedders.2.weight"
    assert np.array_equal(whole(tmp_path, 2), values[name].float().numpy())


def test_what_is_missing_or_malformed_is_named(tmp_path: Path) -> None:
    tables = random_tables()
    directory = save_longcat(tmp_path, tables)
    path = directory / "model.safetensors"
    sound = load_file(path)

    def without(name: str) -> None:
        save_file({key: value for key, value in sound.items() if key != name}, path)

    without("model.ngram_embeddings.embedders.3.weight")
    with pytest.raises(InputError, match="table 3 of 4 is not among the weights"):
        find_tables(directory)
    without("model.embed_tokens.weight")
    with pytest.raises(InputError, match=r"no embed_tokens\.weight"):
        find_tables(directory)
    save_file({"model.embed_tokens.weight": sound["model.embed_tokens.weight"]}, path)
    with pytest.raises(InputError, match="no n-gram tables among the weights"):
        find_tables(directory)
    save_longcat(tmp_path, [*tables[:3], tables[3][:-1]])
    with pytest.raises(InputError, match=r"has 200 rows, config\.json needs 201"):
        find_tables(directory)
    save_longcat(tmp_path, [table.astype(np.int64) for table in tables])
    with pytest.raises(InputError, match="is I64 of shape"):
        find_tables(directory)
    (directory / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="model_type"):
        find_tables(directory)
    with pytest.raises(InputError, match="no such directory"):
        find_tables(directory / "none")
    path.rename(directory / "pytorch_model.bin")
    save_longcat(tmp_path, tables)
    path.unlink()
    with pytest.raises(UnsafeInputError, match="only pickled weights"):
        find_tables(directory)


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    tables = random_tables()
    tables[1][33, 2:4] = np.inf, -np.inf
    save_longcat(tmp_path, tables)
    found = find_tables(tmp_path)
    with pytest.raises(InputError, match=r"embedders\.1\.weight: \[33, 2\]: is inf"):
        autopsy(tmp_path, found.tables[1], traffic=None, initializer_range=None)


def test_a_text_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_longcat(tmp_path, random_tables())
    stream = TokenStream(
        tokens=np.array([0, VOCAB_SIZE], dtype=np.uint32),
        doc_starts=np.array([0, 2]),
        vocab_size=VOCAB_SIZE + 1,
        num_bytes=0,
    )
    with pytest.raises(InputError, match="token id 97, the hash's vocabulary ends at 96"):
        probe_tables(find_tables(tmp_path), stream, done=lambda: None)
