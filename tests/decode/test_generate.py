"""The loop: every drafter, batch and draft length gives the tokens of plain greedy decoding."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ngscale.decode.drafters import Drafter, Lookup, ModelDraft, TableDraft
from ngscale.decode.generate import Generated, generate
from ngscale.decode.measure import exact_check
from ngscale.decode.rejection import SCORES, Threshold
from ngscale.decode.sampling import Draft, Sampling
from ngscale.decode.sequences import Sequences
from ngscale.decode.subject import load_subject
from ngscale.decode.table_head import TableHead
from ngscale.model.checkpoint import save_decoder
from ngscale.model.decoder import Decoder
from ngscale.model.row_invariant import row_invariant
from tests.model.small import DESIGN, GATED, PLAIN
from tests.model.test_longcat import random_decoder, tiny

NEW = 14


def drawn(seed: int = 0, design: object = DESIGN, scale: float = 1.0) -> Decoder:
    assert design in (DESIGN, GATED, PLAIN)
    decoder = Decoder(design)
    decoder.initialise(seed)
    generator = torch.Generator().manual_seed(1)
    for name, weight in decoder.named_parameters():
        if "tables" in name or "conv1d" in name:
            nn.init.normal_(weight, std=0.3 * scale, generator=generator)
    return decoder.eval()


def head() -> TableHead:
    made = TableHead(32, 64)
    nn.init.normal_(made.up.weight, generator=torch.Generator().manual_seed(2))
    return made


class Oracle:
    """Drafts what greedy decoding gives, and one wrong token at ``wrong`` of each draft."""

    name = "oracle"

    def __init__(self, whole: Tensor, wrong: int | None = None) -> None:
        self.whole, self.wrong = whole, wrong

    def start(self, sequences: object) -> None:
        pass

    def draft(self, sequences, length, sampling, uniforms):  # type: ignore[no-untyped-def]
        places = sequences.num_known.unsqueeze(1) + torch.arange(length)
        tokens = self.whole.gather(1, places.clamp_max(self.whole.shape[1] - 1))
        if self.wrong is not None:
            at = min(self.wrong, length - 1)
            tokens[:, at] = (tokens[:, at] + 1) % 64
        return Draft(tokens, torch.full((len(tokens),), length), None)


def prompts(num: int = 3) -> Tensor:
    return torch.randint(0, 64, (num, 9), generator=torch.Generator().manual_seed(0))


def by_full_passes(decoder: Decoder, start: Tensor, number: int = NEW) -> Tensor:
    tokens = start
    for _ in range(number):
        tokens = torch.cat([tokens, decoder(tokens)[:, -1:].argmax(-1)], dim=1)
    return tokens


def drafters() -> Sequence[Drafter]:
    return [
        Lookup(),
        TableDraft(head()),
        ModelDraft(drawn(3, PLAIN)),
        *(
            TableDraft(head(), Threshold(name, t))
            for name, t in zip(SCORES, (-4.0, 0.3, 1.0, 1.0, -3.9, 0.4), strict=True)
        ),
    ]


@pytest.mark.parametrize("design", [DESIGN, GATED])
def test_greedy_tokens_are_those_of_full_passes_whatever_drafts(design: object) -> None:
    decoder = drawn(design=design)
    with row_invariant():
        whole = by_full_passes(decoder, prompts())
        expected = whole[:, 9:].numpy()
        assert np.array_equal(generate(decoder, prompts(), new_tokens=NEW).tokens, expected)
        for drafter in [*drafters(), Oracle(whole), Oracle(whole, wrong=1)]:
            for k in (1, 2, 5):
                made = generate(decoder, prompts(), new_tokens=NEW, drafter=drafter, draft_length=k)
                assert np.array_equal(made.tokens, expected), (drafter.name, k)


def test_drafts_that_are_right_are_taken_whole() -> None:
    decoder = drawn()
    with row_invariant():
        whole = by_full_passes(decoder, prompts(), NEW + 8)
        right = generate(decoder, prompts(), new_tokens=NEW, drafter=Oracle(whole), draft_length=4)
        wrong = generate(
            decoder, prompts(), new_tokens=NEW, drafter=Oracle(whole, wrong=2), draft_length=4
        )
    assert right.accepted.tolist() == [[4, 4, 4]] * 3  # 5 tokens a step, 14 in all
    assert wrong.accepted.tolist() == [[2, 2, 2]] * 5  # 3 tokens a step
    assert right.drafted.tolist() == [[4, 4, 4]] * 3


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_other_sequences_of_the_batch_change_nothing(temperature: float) -> None:
    decoder, sampling = drawn(), Sampling(temperature=temperature, top_p=0.9)

    def run(rows: slice, drafter: Drafter) -> Generated:
        return generate(
            decoder,
            prompts()[rows],
            new_tokens=NEW,
            drafter=drafter,
            draft_length=3,
            sampling=sampling,
            first=rows.start,
        )

    with row_invariant():
        for drafter in (Lookup(), TableDraft(head()), ModelDraft(drawn(3, PLAIN))):
            together = run(slice(0, 3), drafter)
            for b in range(3):
                alone = run(slice(b, b + 1), drafter)
                assert np.array_equal(alone.tokens[0], together.tokens[b])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_saves_rows_and_changes_no_token(temperature: float) -> None:
    decoder, made = drawn(), []
    with row_invariant():
        for cached in (True, False):
            made.append(
                generate(
                    decoder,
                    prompts(),
                    new_tokens=NEW,
                    drafter=TableDraft(head()),
                    draft_length=4,
                    sampling=Sampling(temperature=temperature),
                    cached=cached,
                )
            )
    with_cache, without = made
    assert np.array_equal(with_cache.tokens, without.tokens)
    assert np.array_equal(with_cache.accepted, without.accepted)
    steps = len(with_cache.accepted)
    # A step embeds the last token and 4 guesses; without the cache, the first four again.
    assert with_cache.num_reused == steps * 3 * 4
    assert without.num_reused == 0
    assert without.num_embedded - with_cache.num_embedded == with_cache.num_reused


def test_lookup_continues_the_last_earlier_match() -> None:
    """[1 2 3 9 1 2 3 | ?]: behind 1 2 3 stood 9 1 2 3, and then again."""
    known = torch.tensor([[1, 2, 3, 9, 1, 2, 3], [5, 6, 7, 8, 9, 10, 11], [4, 4, 4, 4, 4, 4, 4]])
    sequences = Sequences(drawn(), known, capacity=20)
    draft = Lookup().draft(sequences, 6, Sampling(), None)
    assert draft.counts.tolist() == [6, 0, 6]
    assert draft.tokens[0].tolist() == [9, 1, 2, 3, 9, 1]
    assert draft.tokens[2].tolist() == [4] * 6


def test_a_longcat_flash_checkpoint_is_decoded_too(tmp_path: Path) -> None:
    design = tiny(tmp_path)
    save_decoder(random_decoder(design), design, tmp_path)
    subject = load_subject(tmp_path, device="cpu", dtype="float32")
    embedding = subject.embedding
    vocab_size, hidden_size = embedding.word_embeddings.weight.shape
    drafter = TableDraft(TableHead(hidden_size, vocab_size))
    for one in (None, Lookup(), drafter):
        assert exact_check(subject, prompts().numpy() % vocab_size, one, 3)
