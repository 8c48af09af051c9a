"""The table head: learns, is kept, resumes to the last bit, and refuses another model's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ngscale.decode import table_head
from ngscale.decode.table_head import (
    HeadTraining,
    TableHead,
    head_loss,
    read_head,
    train_head,
)
from ngscale.errors import InputError
from ngscale.model.embedding import NgramEmbedding
from tests.model.small import DESIGN, SPEC

TRAINING = HeadTraining(tokens=6_000, tokens_per_step=128, learning_rate=0.1)


def embedding() -> NgramEmbedding:
    made = NgramEmbedding(64, 32, SPEC)
    made.initialise(0)
    return made.requires_grad_(False)


def blocks() -> np.ndarray:
    """Token t is followed by 5t + 3 modulo 64."""
    starts = np.random.default_rng(0).integers(0, 64, 40)
    out = [starts]
    for _ in range(16):
        out.append((5 * out[-1] + 3) % 64)
    return np.stack(out, axis=1)


@pytest.mark.parametrize("rank", [0, 24])
def test_a_head_learns_what_the_embedding_tells(rank: int) -> None:
    training = HeadTraining(tokens=20_000, tokens_per_step=128, learning_rate=0.1, rank=rank)
    head = train_head(embedding(), blocks(), training, path=None, identity={})
    assert head_loss(head, embedding(), blocks()) < 0.3 < np.log(64)


def test_a_head_that_was_kept_is_read_and_one_cut_short_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_head, "_SAVE_STEPS", 10)
    path, steps = tmp_path / "head.safetensors", 0

    class CutError(Exception):
        pass

    def cut(number: int) -> None:
        nonlocal steps
        steps += number
        if steps == 25:
            raise CutError

    whole = train_head(embedding(), blocks(), TRAINING, path=None, identity={"of": "a"})
    with pytest.raises(CutError):
        train_head(embedding(), blocks(), TRAINING, path=path, identity={"of": "a"}, advance=cut)
    assert not path.is_file()
    done: list[int] = []
    resumed = train_head(
        embedding(), blocks(), TRAINING, path=path, identity={"of": "a"}, advance=done.append
    )
    assert done[0] == 20
    assert torch.equal(resumed.up.weight, whole.up.weight)
    done.clear()
    train_head(
        embedding(), blocks(), TRAINING, path=path, identity={"of": "a"}, advance=done.append
    )
    assert done == [TRAINING.num_steps]
    assert [one.name for one in tmp_path.iterdir()] == ["head.safetensors"]
    other = read_head(path, hidden_size=32, vocab_size=64)
    assert torch.equal(other.up.weight, whole.up.weight)


def test_a_head_of_another_text_is_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    done: list[int] = []
    train_head(embedding(), blocks(), TRAINING, path=path, identity={"of": "a"})
    train_head(
        embedding(), blocks(), TRAINING, path=path, identity={"of": "b"}, advance=done.append
    )
    assert len(done) > 1


def test_heads_of_other_models_and_broken_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    train_head(embedding(), blocks(), TRAINING, path=path, identity={})
    with pytest.raises(InputError, match=r"up.weight: has shape \[64, 32\].* \[80, 32\]"):
        read_head(path, hidden_size=32, vocab_size=80)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="is no draft head"):
        read_head(path, hidden_size=32, vocab_size=64)


def test_the_parameters_of_a_head_are_its_matrices() -> None:
    assert DESIGN.model.vocab_size == 64
    count = sum(p.numel() for p in TableHead(32, 64, 4).parameters())
    assert count == 4 * 32 + 4 * 64
