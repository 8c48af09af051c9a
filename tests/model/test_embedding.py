"""NgramEmbedding against the formula, written out table by table."""

import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ngscale.errors import SpecError
from ngscale.hashing.definition import averaged_exact, read_rows_exact, row_ids_exact
from ngscale.hashing.torch_twin import NgramHash
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.policy import Policy, RowZero
from ngscale.spec import Amplification, Fusion, WordScale
from tests.designs import ple_spec
from tests.model.small import DESIGN, INDUCTOR_WARNS, MODEL, PLAIN, SPEC, amplified
from tests.specs import Case, cases


def trained_like(embedding: NgramEmbedding) -> NgramEmbedding:
    """Rows as after training, not the zeros they start with."""
    embedding.initialise(0)
    nn.init.normal_(embedding.tables.weight, generator=torch.Generator().manual_seed(1))
    return embedding


def some_tokens() -> torch.Tensor:
    return torch.randint(0, 64, (3, 40), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("amplification", ["none", "sqrt_d", "layernorm"])
def test_the_output_is_the_average_of_word_and_projected_rows(amplification: Amplification) -> None:
    spec = amplified(amplification).ngram
    assert spec is not None
    embedding = trained_like(NgramEmbedding(64, 32, spec))
    tokens = some_tokens()
    ids = NgramHash(spec)(tokens)
    total = embedding.word_embeddings(tokens)
    for i in range(4):
        total = total + embedding.table(i)[ids[..., i]] @ embedding.table_projection(i).T
    expected = total / 5
    if amplification == "sqrt_d":
        expected = expected * math.sqrt(32)
    elif amplification == "layernorm":
        expected = nn.functional.layer_norm(expected, (32,))
    torch.testing.assert_close(embedding(tokens), expected)


def test_the_tables_lie_one_below_the_other() -> None:
    embedding = NgramEmbedding(64, 32, SPEC)
    assert [len(embedding.table(i)) for i in range(4)] == list(SPEC.table_rows)
    stacked = torch.cat([embedding.table(i) for i in range(4)])
    assert torch.equal(stacked, embedding.tables.weight)
    assert set(embedding.state_dict()) == {
        "word_embeddings.weight",
        "tables.weight",
        "projection.weight",
    }


def test_the_initial_output_equals_the_plain_embedding() -> None:
    """So its norm does too, as arXiv:2601.21204 asks ("initial output norms match")."""
    with_tables, plain = Decoder(DESIGN), Decoder(PLAIN)
    with_tables.initialise(3)
    plain.initialise(3)
    tokens = some_tokens()
    expected = plain.embed_tokens(tokens)
    torch.testing.assert_close(with_tables.embed_tokens(tokens), expected)
    norms = expected.norm(dim=-1)
    assert norms.mean().item() == pytest.approx(1.0, rel=0.05)  # std 1/sqrt(D)


def test_every_table_learns_from_the_first_gradient() -> None:
    embedding = NgramEmbedding(64, 32, SPEC)
    embedding.initialise(0)
    embedding(some_tokens()).square().sum().backward()
    assert embedding.tables.weight.grad is not None
    for gradient in torch.split(embedding.tables.weight.grad, list(SPEC.table_rows)):
        assert gradient.abs().sum() > 0


def test_a_sparse_gradient_is_the_dense_one_of_the_rows_that_were_read() -> None:
    dense = trained_like(NgramEmbedding(64, 32, SPEC))
    sparse = trained_like(NgramEmbedding(64, 32, SPEC, sparse_gradient=True))
    for embedding in (dense, sparse):
        embedding(some_tokens()).square().sum().backward()
    gradient = sparse.tables.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    torch.testing.assert_close(gradient.to_dense(), dense.tables.weight.grad)
    torch.optim.SparseAdam([sparse.tables.weight]).step()  # type: ignore[no-untyped-call]


def test_decoding_token_by_token_equals_one_pass() -> None:
    embedding = trained_like(NgramEmbedding(MODEL.vocab_size, MODEL.hidden_size, SPEC))
    tokens = some_tokens()
    state, steps = None, []
    for t in range(tokens.shape[1]):
        token = tokens[:, t : t + 1]
        steps.append(embedding(token, state=state))
        state = embedding.row_ids.advance(token, state=state)
    torch.testing.assert_close(torch.cat(steps, dim=1), embedding(tokens))


def test_a_cast_of_the_model_reads_the_same_rows() -> None:
    """Row ids are exact in every dtype of the parameters."""
    embedding = trained_like(NgramEmbedding(64, 32, SPEC))
    ids = embedding.row_ids(some_tokens())
    assert torch.equal(embedding.to(torch.bfloat16).row_ids(some_tokens()), ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "gated"}, "fusion gated"),
        ({"layers": (1, 14)}, r"layers \(1, 14\)"),
        ({"fusion": "added"}, "row_width 8"),
        ({"fusion": "concat"}, "word_scale mean: fusion concat"),
        ({"fusion": "concat_rows"}, "word_scale mean: fusion concat_rows"),
        ({"compressed_vocab": 50}, "needs the compressed id"),
        ({"policy": Policy(fill=None)}, "fill is undecided"),
    ],
)
def test_what_is_no_input_embedding_is_refused_by_field(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        NgramEmbedding(64, 32, replace(SPEC, **changes))


def test_ple_is_a_plain_embedding() -> None:
    with pytest.raises(SpecError, match="placement ple is a plain embedding"):
        NgramEmbedding(64, 32, ple_spec(64, 0))
    with pytest.raises(SpecError, match="one table of order 1 with 64 rows"):
        replace(SPEC, placement="ple", layers=(0,))


# against an independent implementation: definition.py's ids, position by position


def plainly(
    embedding: NgramEmbedding,
    tokens: list[int],
    *,
    segments: list[int] | None = None,
    dead: list[bool] | None = None,
) -> Tensor:
    """The class's formulas for one sequence, with the exact ids of the definition."""
    spec, words = embedding.spec, embedding.word_embeddings.weight
    ids = embedding.compressed_ids
    hashed = tokens if ids is None else [int(ids[t]) for t in tokens]
    found = row_ids_exact(hashed, spec, segments=segments, dead=dead)
    read = read_rows_exact(hashed, spec, segments=segments, dead=dead)
    averaged = averaged_exact(hashed, spec)
    E, D = spec.num_tables, words.shape[1]
    factor = {"sqrt_d": math.sqrt(D), "scalar": spec.amplification_factor}.get(
        spec.amplification, 1.0
    )
    shares = {"mean": 1 + E, "sqrt_mean": math.sqrt(1 + E), "sum_only": 1 + E, "none": 1}
    b = 1 / shares[spec.word_scale]
    a = 1.0 if spec.word_scale == "sum_only" else b
    outputs = []
    for p, token in enumerate(tokens):
        rows = []
        for i in range(E):
            row = found[p][i]
            zero = torch.zeros(embedding.table_width)
            rows.append(embedding.table(i)[row] if row is not None and read[p][i] else zero)
        word = words[token]
        if spec.fusion in ("average", "sum"):
            mixed = [embedding.table_projection(i) @ row for i, row in enumerate(rows)]
            out = a * word + b * torch.stack(mixed).sum(0)
        elif spec.fusion == "added":
            out = a * word + b * torch.stack(rows).sum(0)
        else:
            assert embedding.projection is not None
            matrix = embedding.projection.weight
            if spec.fusion == "concat":
                out = matrix @ torch.cat([word, *rows])
            else:
                out = word + matrix @ torch.cat(rows)
        out = factor * (out if averaged[p] else word)
        if spec.amplification == "layernorm":
            out = nn.functional.layer_norm(out, (D,))
        outputs.append(out)
    return torch.stack(outputs)


@settings(max_examples=80)
@given(cases(), st.data())
def test_every_scheme_and_fusion_equals_the_formula(case: Case, data: st.DataObject) -> None:
    """Ids of every hash and policy, on small tables."""
    vocab_size = min(case.spec.vocab_size, 50)
    tokens = [t % vocab_size for t in case.tokens]
    fusion: Fusion = data.draw(
        st.sampled_from(["average", "sum", "added", "concat", "concat_rows"])
    )
    scales: list[WordScale] = ["mean", "sqrt_mean", "sum_only", "none"]
    amplification: Amplification = data.draw(
        st.sampled_from(["none", "sqrt_d", "scalar", "layernorm"])
    )
    zeros: RowZero = data.draw(
        st.sampled_from(["row", "zero_vector", "zero_vector_before_modulus"])
    )
    spec = replace(
        case.spec,
        table_rows=tuple(1 + rows % 400 for rows in case.spec.table_rows),
        row_multiple=data.draw(st.sampled_from([1, 8])),
        padded_together=data.draw(st.booleans()),
        policy=replace(case.spec.policy, row_zero=zeros),
        row_width=12 if fusion == "added" else 3,
        fusion=fusion,
        word_scale="none" if "concat" in fusion else data.draw(st.sampled_from(scales)),
        amplification=amplification,
        amplification_factor=1.75 if amplification == "scalar" else 1.0,
    )
    embedding = trained_like(NgramEmbedding(vocab_size, 12, spec))
    segments = None if case.segments is None else torch.tensor([case.segments])
    dead = None if case.dead is None else torch.tensor([case.dead])
    out = embedding(torch.tensor([tokens]), segments=segments, dead=dead)
    expected = plainly(embedding, tokens, segments=case.segments, dead=case.dead)
    torch.testing.assert_close(out[0], expected, rtol=1e-4, atol=1e-5)


def test_compressed_ids_are_what_is_hashed() -> None:
    spec = replace(SPEC, compressed_vocab=16)
    ids = torch.arange(64) // 4
    embedding = trained_like(NgramEmbedding(64, 32, spec, compressed_ids=ids))
    tokens = some_tokens()
    torch.testing.assert_close(embedding(tokens)[0], plainly(embedding, tokens[0].tolist()))
    assert "compressed_ids" in embedding.state_dict()
    state = embedding.advance(tokens[:, :10])
    torch.testing.assert_close(embedding(tokens[:, 10:], state), embedding(tokens)[:, 10:])


ALL_FUSIONS: list[dict[str, Any]] = [
    {"word_scale": "mean"},
    {"word_scale": "sqrt_mean"},
    {"word_scale": "sum_only"},
    {"word_scale": "none"},
    {"fusion": "added", "row_width": 32},
    {"fusion": "concat", "word_scale": "none"},
    {"fusion": "concat_rows", "word_scale": "none"},
]


@pytest.mark.parametrize("changes", ALL_FUSIONS)
def test_every_fusion_starts_as_the_plain_embedding(changes: dict[str, Any]) -> None:
    embedding = NgramEmbedding(64, 32, replace(SPEC, **changes))
    embedding.initialise(3)
    plain = Decoder(PLAIN)
    plain.initialise(3)
    torch.testing.assert_close(embedding(some_tokens()), plain.embed_tokens(some_tokens()))


@pytest.mark.parametrize("changes", ALL_FUSIONS)
def test_under_autocast_every_fusion_is_close_and_ids_are_exact(changes: dict[str, Any]) -> None:
    embedding = trained_like(NgramEmbedding(64, 32, replace(SPEC, **changes)))
    expected = embedding(some_tokens())
    with torch.autocast("cpu", torch.bfloat16):
        out = embedding(some_tokens())
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.2)


def test_no_forward_syncs_with_the_host() -> None:
    """On the meta device a value that is asked for is an error."""
    with torch.device("meta"):
        embedding = NgramEmbedding(64, 32, replace(SPEC, word_scale="sum_only"))
        tokens = torch.zeros(2, 9, dtype=torch.long)
    assert embedding(tokens).shape == (2, 9, 32)


@INDUCTOR_WARNS
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_it_compiles_to_one_graph() -> None:
    embedding = trained_like(NgramEmbedding(64, 32, SPEC))
    compiled = torch.compile(embedding, fullgraph=True)
    tokens = some_tokens()
    out, expected = compiled(tokens), embedding(tokens)
    torch.testing.assert_close(out, expected)
    gradients = [
        torch.autograd.grad(x.square().sum(), list(embedding.parameters())) for x in (out, expected)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.gpu
def test_on_a_gpu_in_bfloat16_compiled() -> None:
    embedding = trained_like(NgramEmbedding(64, 32, SPEC))
    expected = embedding(some_tokens())
    compiled = torch.compile(embedding.cuda(), fullgraph=True)
    with torch.autocast("cuda", torch.bfloat16):
        out = compiled(some_tokens().cuda())
    torch.testing.assert_close(out.float().cpu(), expected, rtol=0.05, atol=0.2)
