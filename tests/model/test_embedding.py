"""NgramEmbedding against the formula, written out table by table."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ngscale.errors import SpecError
from ngscale.hashing.torch_twin import NgramHash
from ngscale.model.decoder import Decoder
from ngscale.model.embedding import NgramEmbedding
from ngscale.policy import Policy
from ngscale.spec import Amplification
from tests.model.small import DESIGN, MODEL, PLAIN, SPEC, amplified


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
        ({"fusion": "concat"}, "fusion concat"),
        ({"word_scale": "sum_only"}, "word_scale sum_only"),
        ({"layers": (1, 14)}, r"layers \(1, 14\)"),
        ({"row_width": 3}, "row_width 3"),
        ({"row_multiple": 128}, "row_multiple 128"),
        ({"compressed_vocab": 50}, "compressed_vocab 50"),
        ({"policy": Policy(row_zero="zero_vector")}, "row_zero zero_vector"),
        (
            {"policy": Policy(ignored_tokens=((1, 2),), ignored_rule="exclude")},
            "ignored_rule exclude",
        ),
        ({"policy": Policy(dead_tokens="block")}, "dead_tokens block"),
        (
            {
                "table_orders": (2,),
                "table_rows": (157,),
                "reserved_rows": 1,
                "policy": Policy(start="reserved_row", documents="none"),
            },
            "reserved_rows 1",
        ),
    ],
)
def test_what_is_not_implemented_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        NgramEmbedding(64, 32, replace(SPEC, **changes))
