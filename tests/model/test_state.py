"""Decoding with a state: the same logits as one pass, to the last bit in the row-invariant mode."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ngscale.architectures.ngscale_moe import decoder_model
from ngscale.design import Design
from ngscale.model.decoder import Decoder
from ngscale.model.row_invariant import row_invariant
from ngscale.model.state import DecoderState
from ngscale.policy import mode_policy
from tests.model.small import (
    CONFIG,
    DESIGN,
    GATED,
    MODEL,
    PLAIN,
    PLE,
    PLNE,
    SHORTCUT,
    SHORTCUT_CONFIG,
    SPEC,
    amplified,
)

LATENT = Design(
    model=decoder_model(
        replace(
            SHORTCUT_CONFIG,
            attention="mla",
            q_lora_rank=12,
            kv_lora_rank=8,
            qk_nope_head_dim=8,
            qk_rope_head_dim=4,
            v_head_dim=8,
            mla_scale_lora=True,
        )
    ),
    ngrams=(SPEC,),
)
ODD = Design(
    model=decoder_model(replace(CONFIG, num_experts=5, num_experts_per_tok=3, head_dim=6)),
    ngrams=(replace(SPEC, fusion="concat", word_scale="none"),),
)
NEXT = Design(
    model=MODEL,
    ngrams=(replace(SPEC, policy=mode_policy("exclude", 0, ((60, 64),))),),
)
DESIGNS = {
    "average": DESIGN,
    "plain": PLAIN,
    "layernorm": amplified("layernorm"),
    "shortcut": SHORTCUT,
    "gated": GATED,
    "ple": PLE,
    "plne": PLNE,
    "latent": LATENT,
    "odd": ODD,
    "next": NEXT,
}
LENGTH = 41


def drawn(design: Design) -> Decoder:
    """Tables and convolutions too, which start at 0."""
    decoder = Decoder(design)
    decoder.initialise(0)
    generator = torch.Generator().manual_seed(1)
    for name, weight in decoder.named_parameters():
        if "tables" in name or "conv1d" in name:
            nn.init.normal_(weight, std=0.3, generator=generator)
    return decoder.eval()


def tokens_of(num_sequences: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randint(0, 64, (num_sequences, length), generator=torch.Generator().manual_seed(0))


def in_parts(decoder: Decoder, tokens: Tensor, cuts: list[int]) -> Tensor:
    state = decoder.new_state(len(tokens), LENGTH + 7)
    ends = [*cuts, tokens.shape[1]]
    parts = [
        decoder(tokens[:, start:end], state=state)
        for start, end in zip([0, *cuts], ends, strict=True)
    ]
    return torch.cat(parts, dim=1)


@pytest.fixture(params=list(DESIGNS))
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return drawn(DESIGNS[request.param])


CUTS = [[], [1], [5, 6, 23], [*range(1, LENGTH)], [40], [17, 18, 19, 35]]


def test_any_cut_any_batch_has_the_bits_of_one_pass(decoder: Decoder) -> None:
    tokens = tokens_of()
    with row_invariant():
        whole = decoder(tokens)
        for cuts in CUTS:
            assert torch.equal(in_parts(decoder, tokens, cuts), whole)
        for b in range(3):
            assert torch.equal(decoder(tokens[b : b + 1]), whole[b : b + 1])
        order = [2, 0, 1]
        assert torch.equal(in_parts(decoder, tokens[order], [7, 8]), whole[order])


def test_the_mode_changes_no_more_than_the_last_bits(decoder: Decoder) -> None:
    tokens = tokens_of()
    with torch.no_grad():
        plain = decoder(tokens)
    with row_invariant():
        torch.testing.assert_close(decoder(tokens), plain, rtol=1e-4, atol=1e-5)


def test_without_the_mode_a_step_gives_the_logits_of_one_pass(decoder: Decoder) -> None:
    tokens = tokens_of()
    with torch.no_grad():
        whole = decoder(tokens)
        for cuts in CUTS:
            parts = in_parts(decoder, tokens, cuts)
            torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
            assert torch.equal(parts.argmax(-1), whole.argmax(-1))


def test_tokens_that_were_taken_back_leave_no_trace(decoder: Decoder) -> None:
    """Lengths that differ from sequence to sequence, and wrong tokens behind them."""
    tokens, kept = tokens_of(), torch.tensor([6, 9, 12])
    with row_invariant():
        whole = decoder(tokens)
        state = decoder.new_state(3, LENGTH + 20)
        decoder(tokens[:, :5], state=state)
        wrong = torch.stack(
            [
                torch.cat([row[5:k], 63 - row[k : k + 9]])[:9]
                for row, k in zip(tokens, kept.tolist(), strict=True)
            ]
        )
        decoder(wrong, state=state)
        state.truncate(kept)
        for step in range(20):
            at = kept + step
            logits = decoder(tokens.gather(1, at.unsqueeze(1)), state=state)
            assert torch.equal(logits[:, 0], whole[torch.arange(3), at])


def test_prompts_of_several_lengths_are_padded_behind(decoder: Decoder) -> None:
    tokens, lengths = tokens_of(), torch.tensor([4, 11, 8])
    with row_invariant():
        whole = decoder(tokens)
        state = decoder.new_state(3, LENGTH)
        decoder(tokens[:, :11], state=state)
        state.truncate(lengths, 11)
        logits = decoder(tokens.gather(1, lengths.unsqueeze(1)), state=state)
        assert torch.equal(logits[:, 0], whole[torch.arange(3), lengths])


def test_embedded_drafts_are_those_of_the_pass(decoder: Decoder) -> None:
    """Token by token ahead of the state's end, and given to the pass that verifies them."""
    tokens = tokens_of()
    with row_invariant():
        whole = decoder(tokens)
        state = decoder.new_state(3, LENGTH)
        decoder(tokens[:, :10], state=state)
        embedded = torch.cat(
            [decoder.embed(tokens[:, 10 + i : 11 + i], state, ahead=i) for i in range(5)], dim=1
        )
        hidden = decoder.hidden(tokens[:, 10:15], state, embedded=embedded)
        assert torch.equal(decoder.lm_head(hidden), whole[:, 10:15])
        assert torch.equal(decoder(tokens[:, 15:], state=state), whole[:, 15:])


def test_a_state_without_room_is_refused() -> None:
    decoder = drawn(DESIGN)
    state = decoder.new_state(1, 4)
    decoder(tokens_of(1, 4), state=state)
    with pytest.raises(ValueError, match="room for 4"):
        decoder(tokens_of(1, 1), state=state)


def test_a_state_knows_its_bytes() -> None:
    """Two layers of keys and values [1, 2, 16, 8] in float32, and two ids of 17 places."""
    decoder = drawn(DESIGN)
    state = decoder.new_state(1, 16)
    assert isinstance(state, DecoderState)
    decoder(tokens_of(1, 4), state=state)
    assert state.num_bytes == 2 * 2 * 2 * 16 * 8 * 4 + 17 * 2 * 8
