"""The whole loop against the exact distribution of three tokens over a vocabulary of four."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor, nn

from ngscale.architectures.ngscale_moe import decoder_model
from ngscale.decode import generate as loop
from ngscale.decode.drafters import Drafter, Lookup, ModelDraft, TableDraft
from ngscale.decode.generate import generate
from ngscale.decode.rejection import Rejector, Threshold
from ngscale.decode.sampling import Draft, Sampling, Verdict, draw, verify_sampling
from ngscale.decode.table_head import TableHead
from ngscale.design import Design
from ngscale.model.decoder import Decoder
from ngscale.spec import longcat_spec
from tests.designs import policy_of
from tests.model.small import CONFIG

V, NUMBER, NEW = 4, 5_000, 3
PROMPT = torch.tensor([[1, 2, 3, 1, 2]])
SAMPLING = Sampling(temperature=2.0)


def tiny(seed: int) -> Decoder:
    spec = longcat_spec(
        vocab_size=V, max_order=3, num_subtables=1, table_rows=(13, 17), policy=policy_of(None)
    )
    design = Design(model=decoder_model(replace(CONFIG, vocab_size=V)), ngrams=(spec,))
    decoder = Decoder(design)
    decoder.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in decoder.named_parameters():
        if "tables" in name:
            nn.init.normal_(weight, generator=generator)
    return decoder.eval()


def table(rejector: Rejector | None = None) -> TableDraft:
    head = TableHead(32, V)
    nn.init.normal_(head.up.weight, std=0.5, generator=torch.Generator().manual_seed(2))
    return TableDraft(head, rejector)


@torch.no_grad()
def exact(decoder: Decoder) -> np.ndarray:
    """p(x1) p(x2 | x1) p(x3 | x1, x2) of all 64."""
    all_three = torch.tensor([*itertools.product(range(V), repeat=NEW)])
    tokens = torch.cat([PROMPT.expand(len(all_three), -1), all_three], dim=1)
    p = SAMPLING.probabilities(decoder(tokens[:, :-1])[:, PROMPT.shape[1] - 1 :])
    return p.gather(2, all_three.unsqueeze(2)).prod(1).squeeze(1).numpy()


def p_value(drafter: Drafter | None) -> tuple[float, float]:
    """Of the chi-square test, and the share of drafted tokens that stood."""
    decoder = tiny(0)
    made = generate(
        decoder,
        PROMPT.expand(NUMBER, -1),
        new_tokens=NEW,
        drafter=drafter,
        draft_length=3,
        sampling=SAMPLING,
        seed=11,
    )
    cells = made.tokens @ (V ** np.arange(NEW)[::-1])
    counts, expected = np.bincount(cells, minlength=V**NEW), exact(decoder) * NUMBER
    assert expected.min() > 5, "cells must be large enough for chi-square"
    stood = float(made.accepted.sum() / max(made.drafted.clip(0).sum(), 1))
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), V**NEW - 1)), stood


DRAFTERS: dict[str, Callable[[], Drafter | None]] = {
    "none": lambda: None,
    "lookup": Lookup,
    "table": table,
    "model": lambda: ModelDraft(tiny(5)),
    "table, rejected by head": lambda: table(Threshold("head", math.log(0.2))),
    "table, rejected by margin": lambda: table(Threshold("margin", 0.5)),
    "table, rejected by entropy": lambda: table(Threshold("entropy", -1.2)),
    "table, rejected at random": lambda: table(Threshold("random", 0.5)),
}


@pytest.mark.parametrize("name", DRAFTERS)
def test_sequences_are_distributed_as_the_model_says(name: str) -> None:
    p, stood = p_value(DRAFTERS[name]())
    assert p > 0.01
    assert name == "none" or 0.1 < stood < 0.95, "a test of drafts that stand and fall"


def greedy_of_drafts(probabilities: Tensor, draft: Draft, uniforms: Tensor) -> Verdict:
    """Wrong: behind a draft that fell, draws from p and not from the rest."""
    right = verify_sampling(probabilities, draft, uniforms)
    at = right.accepted[:, None, None].expand(-1, 1, V)
    return Verdict(right.accepted, draw(probabilities.gather(1, at).squeeze(1), uniforms[:, -1]))


def test_a_wrong_rule_in_the_loop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "verify_sampling", greedy_of_drafts)
    assert p_value(table())[0] < 1e-6


def test_rejection_by_token_without_restricting_q_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Threshold, "restrict", lambda self, drawn_from, logits: drawn_from)
    assert p_value(table(Threshold("head", math.log(0.2))))[0] < 1e-6
