"""Isolation: what is timed is what a step does, and the bytes are those of its shapes."""

from typing import Any

import numpy as np
import pytest
import torch

from ngscale.decode import isolation
from ngscale.decode.isolation import (
    PARTS,
    Part,
    Step,
    Switches,
    measure_step,
    measure_switches,
    read_context,
)
from ngscale.decode.isolation_report import build_record, build_report
from ngscale.decode.isolation_run import (
    DESIGN,
    MOE,
    PLACEBO,
    Request,
    Timed,
    measure_models,
    models,
    results,
    windows_of,
)
from ngscale.design import Design
from ngscale.errors import InputError, UsageError
from ngscale.model.decoder import Decoder
from ngscale.params import total_parameters
from ngscale.tokens import TokenStream
from ngscale.train_small.config import DEFAULT_DESIGN

BATCH, CONTEXT = 3, 12
D, V0, LAYERS, EXPERT = 128, 4096, 4, 3 * 64 * 128


def decoder_of(design: Design = DEFAULT_DESIGN) -> Decoder:
    decoder = Decoder(design)
    decoder.initialise(0)
    return decoder.eval()


def step_of(decoder: Decoder, cut: torch.Tensor, num_tokens: int) -> Step:
    context, new = cut[:, :-num_tokens], cut[:, -num_tokens:].contiguous()
    state = read_context(decoder, context, most_tokens=num_tokens)
    return measure_step(decoder, state, new, min_seconds=0)


def switches_of(decoder: Decoder, cut: torch.Tensor, num_tokens: int) -> Switches | None:
    context, new = cut[:, :-num_tokens], cut[:, -num_tokens:].contiguous()
    state = read_context(decoder, context, most_tokens=num_tokens)
    return measure_switches(decoder, state, new, min_seconds=0)


def windows(length: int) -> torch.Tensor:
    return torch.randint(V0, (BATCH, length), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each thing timed is run once, and what it returns is kept."""
    returned: list[Any] = []

    def once(run: Any, min_seconds: float) -> float:
        returned.append(run())
        return 1e-3

    monkeypatch.setattr(isolation, "_median", once)
    return returned


def of(step: Step) -> dict[str, int]:
    return {part.name: part.num_bytes for part in step.parts}


def test_bytes_are_those_of_the_shapes(at_once: list[Any]) -> None:
    decoder, cut = decoder_of(), windows(CONTEXT + 1)
    step = step_of(decoder, cut, 1)
    found = of(step)
    assert tuple(found) == PARTS
    embedding = decoder.embed_tokens
    rows = embedding.row_ids(cut)[:, -1]  # type: ignore[operator]
    assert found["ids"] == 8 * BATCH * 4
    distinct = {(table, row) for ids in rows.tolist() for table, row in enumerate(ids)}
    assert found["gather"] == 4 * 32 * len(distinct)
    assert found["fusion"] == 4 * D * D
    assert found["words"] == 4 * D * BATCH
    weights = LAYERS * (D * 128 + 2 * D * 64 + 128 * D)
    keys = BATCH * (CONTEXT + 1) * LAYERS * 2 * 2 * 32
    assert found["attention"] == 4 * (weights + keys)
    assert found["router"] == 4 * LAYERS * 16 * D
    assert found["lm_head"] == 4 * V0 * D
    assert found["dense"] == 0
    assert found["experts"] % (4 * EXPERT) == 0
    assert LAYERS * 2 <= found["experts"] // (4 * EXPERT) <= LAYERS * 2 * BATCH


def test_the_whole_step_gives_the_logits_of_a_pass_over_all(at_once: list[Any]) -> None:
    decoder, cut = decoder_of(), windows(CONTEXT + 3)
    step_of(decoder, cut, 3)
    with torch.no_grad():
        expected = decoder(cut)[:, -3:]
    torch.testing.assert_close(at_once[0], expected)


def test_the_parts_run_again_on_what_the_step_gave_them(at_once: list[Any]) -> None:
    """Each result that is a tensor has the values that the step made of it."""
    decoder, cut = decoder_of(), windows(CONTEXT + 1)
    seen: dict[str, torch.Tensor] = {}
    decoder.embed_tokens.register_forward_hook(lambda _, __, out: seen.update(embedded=out))
    step_of(decoder, cut, 1)
    logits, ids, rows, fused, words = at_once[:5]
    torch.testing.assert_close(fused, seen["embedded"])
    torch.testing.assert_close(at_once[-1], logits)
    assert ids.shape == (BATCH, 1, 4)
    assert rows.shape == (BATCH, 1, 4, 32)
    assert words.shape == (BATCH, 1, D)


def test_a_model_without_tables_has_no_parts_of_them(at_once: list[Any]) -> None:
    decoder = decoder_of(models(DEFAULT_DESIGN)[MOE])
    found = of(step_of(decoder, windows(CONTEXT + 1), 1))
    assert [found[name] for name in ("ids", "gather", "fusion")] == [0, 0, 0]
    assert switches_of(decoder, windows(CONTEXT + 2), 2) is None


def test_the_switches_give_equal_embeddings(at_once: list[Any]) -> None:
    assert switches_of(decoder_of(), windows(CONTEXT + 5), 5)
    fused, _, table_by_table, kept = at_once
    torch.testing.assert_close(table_by_table, fused)
    torch.testing.assert_close(kept, fused)


def test_what_it_is_held_against() -> None:
    found = models(DEFAULT_DESIGN)
    assert list(found) == [DESIGN, MOE, PLACEBO]
    assert total_parameters(found[MOE]) == pytest.approx(total_parameters(DEFAULT_DESIGN), rel=0.01)
    (spec,) = found[PLACEBO].ngrams
    assert spec.table_rows == (1, 1, 1, 1)
    with pytest.raises(InputError, match="no n-gram tables"):
        models(Design(model=DEFAULT_DESIGN.model))


def request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "batches": (1, 2),
        "context": CONTEXT,
        "draft_length": 2,
        "rounds": 2,
        "min_seconds": 0.0,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
    }
    return Request(**(fields | changes))


def stream(count: int, vocab_size: int = V0) -> TokenStream:
    tokens = np.arange(count, dtype=np.uint32) % vocab_size
    return TokenStream(
        tokens=tokens, doc_starts=np.array([0, count]), vocab_size=vocab_size, num_bytes=0
    )


def test_texts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="a window takes 15"):
        windows_of(stream(14), request(), V0)
    with pytest.raises(UsageError, match="8,192 ids"):
        windows_of(stream(100, 2 * V0), request(), V0)
    assert windows_of(stream(100), request(), V0).shape == (2, 15)


def test_the_report_has_every_model_and_batch(at_once: list[Any]) -> None:
    done: list[None] = []
    timed = measure_models(DEFAULT_DESIGN, stream(200), request(), lambda: done.append(None))
    record = build_record(timed, request(), "built-in", {})
    assert len(record.results["steps"]) == 3 * 2 * 2
    assert len(done) == 2 * 3 * 2 * 2
    assert len(record.results["drafting"]) == 6
    assert len(record.results["switches"]) == 2
    parts = build_report(record).sections[0].tables[0]
    assert [(row["model"], row["batch"]) for row in parts.rows] == [
        (model, batch) for model in (DESIGN, MOE, PLACEBO) for batch in (1, 2)
    ]
    for step in record.results["steps"]:
        assert step["of_design"] == step["of_design_low"] == step["of_design_high"] == 1
        assert sum(part["us"] for part in step["parts"]) == pytest.approx(step["step_us"])
    assert record.answer.startswith("built-in on a CPU, float32: at batch 1 a step takes 1 ms, ")


def timed(model: str, batches: tuple[int, ...], seconds: float) -> Timed:
    """Steps of one token, and of three that take three times as long."""
    return Timed(
        model=model,
        total_parameters=1,
        active_parameters=1,
        steps=tuple(
            Step(
                batch=batch,
                num_tokens=num_tokens,
                seconds=num_tokens * seconds,
                parts=tuple(Part(name=name, seconds=0.0, num_bytes=0) for name in PARTS),
            )
            for batch in batches
            for num_tokens in (1, 3)
        ),
        switches={},
    )


def test_ranges_are_of_rounds_and_ratios_within_one() -> None:
    """A machine twice as slow in the second round changes times, and no ratio."""
    slower = {DESIGN: (1.0, 2.0), MOE: (1.2, 2.4), PLACEBO: (0.9, 2.0)}
    rounds = [
        [timed(model, batches=(1,), seconds=seconds[i]) for model, seconds in slower.items()]
        for i in range(2)
    ]
    found = results(rounds, request(batches=(1,)))
    steps = {(s["model"], s["num_tokens"]): s for s in found["steps"]}
    assert steps[MOE, 1]["step_us"] == pytest.approx(1.8e6)
    assert (steps[MOE, 1]["step_us_low"], steps[MOE, 1]["step_us_high"]) == (1.2e6, 2.4e6)
    assert steps[MOE, 1]["of_design_low"] == steps[MOE, 1]["of_design_high"] == 1.2
    assert steps[PLACEBO, 1]["of_design"] == pytest.approx(0.95)
    assert (steps[PLACEBO, 1]["of_design_low"], steps[PLACEBO, 1]["of_design_high"]) == (0.9, 1.0)
    for one in found["drafting"]:
        assert (one["break_even_tokens_low"], one["break_even_tokens_high"]) == (3.0, 3.0)
